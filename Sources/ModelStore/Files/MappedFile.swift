// SPDX-License-Identifier: Apache-2.0

import Glibc
package import SystemPackage

/// A read-only shared mapping of a whole regular file: every process that maps it uses the same page-cache pages.
///
/// Unmapped when the last reference goes. The mapping stays whole when the path is renamed over or removed; cutting the file
/// itself short while it is mapped would kill the process, so models are installed by rename and kept unwritable.
package final class MappedFile: Sendable {
    package let path: FilePath
    package let count: Int
    package let identity: FileIdentity
    nonisolated(unsafe) private let base: UnsafeMutableRawPointer
    nonisolated(unsafe) private let reservation: UnsafeMutableRawPointer
    private let reserved: Int

    /// MADV_HUGEPAGE; Glibc's module has no name for either.
    private static let hugePages: CInt = 14
    /// MADV_POPULATE_READ, since Linux 5.14.
    private static let populateRead: CInt = 22

    package convenience init(path: FilePath) throws(StoreError) {
        let descriptor: FileDescriptor
        do { descriptor = try .open(path, .readOnly, options: [.closeOnExec, .nonBlocking]) } catch
        {
            throw .io(error as? Errno ?? .ioError, doing: "open", path)
        }
        defer { try? descriptor.close() }
        try self.init(descriptor: descriptor, path: path)
    }

    /// Maps an open descriptor, which stays the caller's. `path` is for messages.
    package init(descriptor: FileDescriptor, path: FilePath) throws(StoreError) {
        let (identity, size) = try FileIdentity.of(descriptor, path)
        guard size > 0 else { throw .notRegular(path) }
        // Address and file offset agree modulo 2 MiB, so that large page-cache folios can be mapped by huge entries.
        let huge = Format.streamAlignment
        let (reserved, overflow) = size.addingReportingOverflow(huge)
        // A sparse file may claim any size.
        guard !overflow else { throw .io(.noMemory, doing: "map", path) }
        guard
            let space = mmap(
                nil, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            space != MAP_FAILED
        else { throw .io(Errno(rawValue: errno), doing: "map", path) }
        let address = (UInt(bitPattern: space) + UInt(huge) - 1) / UInt(huge) * UInt(huge)
        let aligned = UnsafeMutableRawPointer(bitPattern: address)
        guard
            let base = mmap(
                aligned, size, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor.rawValue, 0),
            base != MAP_FAILED
        else {
            let error = Errno(rawValue: errno)
            munmap(space, reserved)
            throw .io(error, doing: "map", path)
        }
        // A wish, not a need.
        madvise(base, size, Self.hugePages)
        self.path = path
        self.identity = identity
        count = size
        self.base = base
        reservation = space
        self.reserved = reserved
    }

    deinit { munmap(reservation, reserved) }

    /// The first byte; valid while `self` lives.
    package var start: UnsafeRawPointer { UnsafeRawPointer(base) }

    package func withBytes<R, E: Error>(
        _ body: (UnsafeRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        try body(UnsafeRawBufferPointer(start: base, count: count))
    }

    /// Brings the file into memory and maps it, `window` bytes at a time.
    ///
    /// - Parameter progress: told the bytes done so far; returns false to stop.
    package func prefault(
        window: Int = 64 << 20, progress: (Int) -> Bool = { _ in true }
    ) throws(StoreError) {
        var done = 0
        while done < count {
            let length = min(window, count - done)
            if madvise(base + done, length, Self.populateRead) != 0 {
                guard errno == EINVAL else {
                    throw .io(Errno(rawValue: errno), doing: "read", path)
                }
                var sum: UInt8 = 0
                for offset in stride(from: done, to: done + length, by: 4096) {
                    sum &+= base.load(fromByteOffset: offset, as: UInt8.self)
                }
                withExtendedLifetime(sum) {}
            }
            done += length
            guard progress(done) else { return }
        }
    }

    /// Bytes of this mapping that huge page-table entries map now (FilePmdMapped of /proc/self/smaps).
    package var hugePageBytes: Int {
        guard let file = fopen("/proc/self/smaps", "re") else { return 0 }
        defer { fclose(file) }
        let address = UInt(bitPattern: base)
        var isOurs = false
        var line = [CChar](repeating: 0, count: 512)
        while fgets(&line, Int32(line.count), file) != nil {
            let text = String(
                decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let fields = text.split(separator: " ", omittingEmptySubsequences: true)
            if let range = fields.first?.split(separator: "-"), range.count == 2,
                let start = UInt(range[0], radix: 16), let end = UInt(range[1], radix: 16)
            {
                isOurs = (start..<end).contains(address)
            } else if isOurs, fields.first == "FilePmdMapped:", fields.count > 1 {
                return (Int(fields[1]) ?? 0) * 1024
            }
        }
        return 0
    }

    /// Keeps the file's pages in memory; bounded by RLIMIT_MEMLOCK.
    package func lock() throws(StoreError) {
        guard mlock(base, count) == 0 else {
            throw .io(Errno(rawValue: errno), doing: "lock in memory", path)
        }
    }
}

/// What tells one file from another that took its place.
package struct FileIdentity: Sendable, Hashable {
    package let device: UInt64
    package let inode: UInt64
    package let size: Int
    /// Nanoseconds since the epoch.
    package let modified: Int
    /// Permission bits.
    package let mode: UInt32

    /// Others than the owner may write the file, and so could cut it short under a running daemon.
    package var isWritableByOthers: Bool { mode & 0o022 != 0 }

    static func of(_ descriptor: FileDescriptor, _ path: FilePath) throws(StoreError) -> (Self, Int)
    {
        var status = stat()
        guard fstat(descriptor.rawValue, &status) == 0 else {
            throw .io(Errno(rawValue: errno), doing: "examine", path)
        }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .notRegular(path) }
        return (Self(status), Int(status.st_size))
    }

    /// The file at `path` (links followed), or `nil` if it is not a regular file one may examine.
    package static func of(path: FilePath) -> FileIdentity? {
        var status = stat()
        guard stat(path.string, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            return nil
        }
        return Self(status)
    }

    private init(_ status: stat) {
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int(status.st_size)
        modified = Int(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int(status.st_mtim.tv_nsec)
        mode = UInt32(status.st_mode & 0o7777)
    }
}
