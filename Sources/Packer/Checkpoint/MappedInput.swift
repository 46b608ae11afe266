// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage

/// A whole input file, mapped read-only.
///
/// Not ModelStore's MappedFile: this one gives pages back (`release`), so that going once through a
/// checkpoint of any size costs the memory of one tensor.
final class MappedInput: Sendable {
    let path: FilePath
    let count: Int
    private nonisolated(unsafe) let base: UnsafeRawPointer

    init(path: FilePath) throws(PackError) {
        func fail(_ doing: String) -> PackError {
            .io(Errno(rawValue: errno), doing: "\(doing) \(path)")
        }
        let descriptor = path.withPlatformString { open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
        guard descriptor >= 0 else { throw fail("open") }
        defer { _ = close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw fail("examine") }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw .malformed(file: path.string, what: "it is not a regular file")
        }
        guard status.st_size > 0 else {
            throw .malformed(file: path.string, what: "it is empty")
        }
        let size = Int(status.st_size)
        guard let address = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0),
            address != MAP_FAILED
        else { throw fail("map") }
        self.path = path
        count = size
        base = UnsafeRawPointer(address)
    }

    deinit {
        munmap(UnsafeMutableRawPointer(mutating: base), count)
    }

    /// Valid while the object lives.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// Takes the pages of `range` out of this process; reading them again brings them back.
    func release(_ range: Range<Int>) {
        let page = Int(getpagesize())
        let start = range.lowerBound / page * page
        let end = min(range.upperBound, count)
        guard start < end else { return }
        _ = madvise(UnsafeMutableRawPointer(mutating: base + start), end - start, MADV_DONTNEED)
    }

    /// Reads a small text file whole.
    static func read(_ path: FilePath, limit: Int) throws(PackError) -> [UInt8] {
        let file = try MappedInput(path: path)
        guard file.count <= limit else {
            throw .unsupported(
                file: path.string, what: "\(file.count) bytes long; at most \(limit) are read")
        }
        return Array(file.bytes)
    }

    static func exists(_ path: FilePath) -> Bool {
        path.withPlatformString { access($0, F_OK) } == 0
    }
}
