// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import SystemPackage

/// Sessions on disk: for each a file ID.session, which is its record. One process at a time uses a directory.
final class SessionDirectory: Sendable {
    let path: FilePath
    /// Locked (flock) for as long as this lives.
    private let descriptor: Int32
    private static let suffix = ".session"

    /// Makes the directory, for this user alone, if there is none.
    ///
    /// - Throws: `StoreError` if it cannot be used, or users other than root and this process's may write in it.
    init(_ path: FilePath) throws(StoreError) {
        self.path = path
        let isMade = mkdir(path.string, 0o700) == 0
        guard isMade || errno == EEXIST else {
            throw .io(Errno(rawValue: errno), doing: "make the directory", path)
        }
        descriptor = open(path.string, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        var status = stat()
        guard descriptor >= 0, fstat(descriptor, &status) == 0 else {
            throw .io(Errno(rawValue: errno), doing: "open the directory", path)
        }
        if let why = Self.refusal(descriptor, status, path) {
            close(descriptor)
            throw .destination(path, why)
        }
        if isMade { OutputPlace.sync(path.removingLastComponent()) }
        HiddenName.removeStale(in: path)
    }

    deinit { close(descriptor) }

    /// Lets another process have the directory; nothing is written any more.
    func unlock() { flock(descriptor, LOCK_UN) }

    private static func refusal(_ descriptor: Int32, _ status: stat, _ path: FilePath) -> String? {
        guard [0, geteuid()].contains(status.st_uid), status.st_mode & 0o022 == 0 else {
            return
                "users other than root and user \(geteuid()) may write in the directory (owner \(status.st_uid), mode 0\(String(status.st_mode & 0o7777, radix: 8)))"
        }
        guard access(path.string, R_OK | W_OK | X_OK) == 0 else {
            return "\(Errno(rawValue: errno))"
        }
        return flock(descriptor, LOCK_EX | LOCK_NB) == 0
            ? nil : "another process keeps its sessions there"
    }

    /// The ids of the sessions that have files.
    func ids() throws(StoreError) -> [String] {
        do {
            return try Directory.names(in: path).filter { $0.hasSuffix(Self.suffix) }
                .map { String($0.dropLast(Self.suffix.count)) }
        } catch { throw .io(error, doing: "list", path) }
    }

    func file(_ id: String) -> FilePath { path.appending(id + Self.suffix) }

    /// Replaces a session's file, and returns when that will outlive a power cut.
    ///
    /// - Parameter part: the record from an offset on, some bytes of it: none at its end, `nil` if it is gone.
    /// - Returns: false if it is gone; then the file is as it was.
    func write(_ id: String, _ part: (Int) -> [UInt8]?) throws(StoreError) -> Bool {
        guard var bytes = part(0) else { return false }
        var output = try OutputFile(file(id), replacing: true, nameless: false, tidies: false)
        var offset = 0
        while !bytes.isEmpty {
            try output.write(bytes, at: offset)
            offset += bytes.count
            guard let next = part(offset) else { return false }
            bytes = next
        }
        try output.commit(mode: [.ownerReadWrite])
        return true
    }

    func remove(_ id: String) {
        if unlink(file(id).string) == 0 { fsync(descriptor) }
    }

    /// - Parameter most: the bytes a record may have.
    func read(_ id: String, most: Int) throws(SessionRecord.Damage) -> SessionRecord {
        let handle = open(file(id).string, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        guard handle >= 0 else { throw .init("it cannot be opened: \(Errno(rawValue: errno))") }
        defer { close(handle) }
        var status = stat()
        guard fstat(handle, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw .init("it is no regular file")
        }
        guard [0, geteuid()].contains(status.st_uid) else {
            throw .init("it belongs to user \(status.st_uid)")
        }
        let size = Int(status.st_size)
        guard size <= most else {
            throw .init("it has \(size) bytes; at most \(most) are possible")
        }
        var bytes = [UInt8](repeating: 0, count: size)
        do {
            let count = try bytes.withUnsafeMutableBytes {
                try FileDescriptor(rawValue: handle).read(fromAbsoluteOffset: 0, into: $0)
            }
            guard count == size else { throw Errno.ioError }
        } catch { throw .init("it cannot be read: \(error)") }
        let record = try SessionRecord(decoding: bytes)
        guard record.id == id else { throw .init("it is of session \(record.id)") }
        return record
    }
}
