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
        descriptor = Glibc.open(path.string, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
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
    func open(_ id: String, most: Int) throws(SessionRecord.Damage) -> RecordFile {
        let file = try RecordFile(file(id), most: most)
        guard file.record.id == id else { throw .init("it is of session \(file.record.id)") }
        return file
    }
}

/// A session's file, open for reading. All of it has been checked, and none is in memory.
final class RecordFile {
    let record: SessionRecord
    let length: Int
    private let descriptor: Int32

    fileprivate init(_ path: FilePath, most: Int) throws(SessionRecord.Damage) {
        let handle = Glibc.open(path.string, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
        guard handle >= 0 else { throw .init("it cannot be opened: \(Errno(rawValue: errno))") }
        do throws(SessionRecord.Damage) {
            length = try Self.length(handle, most: most)
            record = try SessionRecord(length: length) { readBytes(of: handle, $0) }
        } catch {
            close(handle)
            throw error
        }
        descriptor = handle
    }

    deinit { close(descriptor) }

    /// Some of its bytes; `nil` if they cannot be read.
    func part(_ range: Range<Int>) -> [UInt8]? { readBytes(of: descriptor, range) }

    private static func length(_ handle: Int32, most: Int) throws(SessionRecord.Damage) -> Int {
        var status = stat()
        guard fstat(handle, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw .init("it is no regular file")
        }
        guard [0, geteuid()].contains(status.st_uid) else {
            throw .init("it belongs to user \(status.st_uid)")
        }
        guard status.st_size <= most else {
            throw .init("it has \(status.st_size) bytes; at most \(most) are possible")
        }
        return Int(status.st_size)
    }
}
