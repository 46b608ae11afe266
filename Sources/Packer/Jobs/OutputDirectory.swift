// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import SystemPackage

/// A directory that appears whole or not at all: filled under a temporary name beside its place, then
/// renamed. Given up, it takes its files with it.
struct OutputDirectory: ~Copyable {
    private let destination: FilePath
    /// Where files are written until `publish`.
    let temporary: FilePath
    private var isPublished = false

    /// Refuses a destination that is there and not an empty directory.
    init(_ destination: FilePath) throws(PackError) {
        let destination = destination.lexicallyNormalized()
        guard try Self.isFree(destination), let name = destination.lastComponent else {
            throw .destinationExists(destination.string)
        }
        let parent = destination.removingLastComponent()
        var template = Array(
            parent.appending(".\(name.string).XXXXXX").string.utf8CString)
        guard let made = mkdtemp(&template) else {
            throw .io(Errno(rawValue: errno), doing: "create a directory beside \(destination)")
        }
        self.destination = destination
        temporary = FilePath(platformString: made)
        // mkdtemp's directories are private; this one is to be as any other.
        let mask = umask(0)
        umask(mask)
        chmod(made, 0o777 & ~mask)
    }

    deinit {
        guard !isPublished else { return }
        for name in Self.names(in: temporary) ?? [] {
            _ = temporary.appending(name).withPlatformString { unlink($0) }
        }
        _ = temporary.withPlatformString { rmdir($0) }
    }

    /// Puts the directory in its place. Fails if something came there meanwhile.
    mutating func publish() throws(PackError) {
        let result = temporary.withPlatformString { from in
            destination.withPlatformString { to in rename(from, to) }
        }
        guard result == 0 else {
            if errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR {
                throw .destinationExists(destination.string)
            }
            throw .io(Errno(rawValue: errno), doing: "rename \(temporary) to \(destination)")
        }
        isPublished = true
        let parent = destination.removingLastComponent()
        let path = parent.isEmpty ? FilePath(".") : parent
        let descriptor = path.withPlatformString { open($0, O_RDONLY | O_DIRECTORY | O_CLOEXEC) }
        if descriptor >= 0 {
            fsync(descriptor)
            close(descriptor)
        }
    }

    private static func isFree(_ path: FilePath) throws(PackError) -> Bool {
        var status = stat()
        guard path.withPlatformString({ lstat($0, &status) }) == 0 else {
            if errno == ENOENT { return true }
            throw .io(Errno(rawValue: errno), doing: "examine \(path)")
        }
        guard status.st_mode & S_IFMT == S_IFDIR else { return false }
        return names(in: path)?.isEmpty ?? false
    }

    private static func names(in path: FilePath) -> [String]? {
        guard let directory = path.withPlatformString({ opendir($0) }) else { return nil }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }
}
