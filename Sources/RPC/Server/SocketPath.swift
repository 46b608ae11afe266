// SPDX-License-Identifier: Apache-2.0

package import Glibc

/// Why a server cannot listen.
package enum ListenError: Error, Equatable, CustomStringConvertible {
    case inUse(String)
    case notASocket(String)
    case tooLong(String, limit: Int)
    case failed(String, String)

    package var description: String {
        switch self {
        case .inUse(let path): "\(path): another process is listening there already"
        case .notASocket(let path): "\(path) exists and is not a socket: it is left alone"
        case .tooLong(let path, let limit):
            "\(path): a socket's path has at most \(limit) bytes, this has \(path.utf8.count)"
        case .failed(let where_, let why): "cannot listen on \(where_): \(why)"
        }
    }
}

/// A socket that this process has made in the file system. Its owner keeps the descriptor open until after `remove`: as long
/// as it is open, no other file gets its inode.
///
/// Sockets at a path are made and removed under a lock on the file PATH.lock, which is gone afterwards. A socket listens
/// before the lock is released, so one that refuses connections under the lock is stale, and of several processes that start
/// at once exactly one listens.
package struct SocketPath: Sendable {
    let path: String
    private let device: dev_t
    private let inode: ino_t

    /// Listens at `path`, where nobody listens; a stale socket is replaced, anything else is left alone. The descriptor never
    /// makes its user wait.
    package static func listen(
        _ path: String, kind: __socket_type = SOCK_STREAM, mode: UInt16, backlog: Int32
    ) throws(ListenError) -> (descriptor: Int32, socket: SocketPath) {
        let limit = SocketSpelling.limit
        guard path.utf8.count <= limit else { throw .tooLong(path, limit: limit) }
        guard !path.hasSuffix("/") else {
            throw .failed(path, "a socket's path does not end in a slash")
        }
        return try locked(path) { () throws(ListenError) in
            try makeRoom(path, kind)
            let descriptor = try make(path, kind)
            var status = stat()
            // On Linux a socket's name takes its permissions from the socket itself: nobody may connect before they are right.
            guard fchmod(descriptor, 0) == 0,
                withAddress(path, { Glibc.bind(descriptor, $0, $1) }) == 0
            else { throw fail(path, closing: descriptor) }
            guard Glibc.listen(descriptor, backlog) == 0, chmod(path, mode_t(mode)) == 0,
                lstat(path, &status) == 0
            else {
                defer { unlink(path) }
                throw fail(path, closing: descriptor)
            }
            return (
                descriptor, SocketPath(path: path, device: status.st_dev, inode: status.st_ino)
            )
        }
    }

    /// Removes the socket, unless it is gone or another process has one there now.
    package func remove() {
        try? Self.locked(path) { () throws(ListenError) in
            var status = stat()
            guard lstat(path, &status) == 0, status.st_dev == device, status.st_ino == inode else {
                return
            }
            unlink(path)
        }
    }

    /// Runs `body` while no other process makes or removes a socket at `path`.
    private static func locked<R>(
        _ path: String, _ body: () throws(ListenError) -> R
    ) throws(ListenError) -> R {
        let name = path + ".lock"
        while true {
            let lock = open(name, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard lock >= 0 else {
                throw .failed(
                    path, errno == ENOENT ? "its directory does not exist" : "\(reason) (\(name))")
            }
            defer { close(lock) }
            while flock(lock, LOCK_EX) != 0 {
                guard errno == EINTR else { throw .failed(path, "\(reason) (\(name))") }
            }
            // Whoever held it before has removed the file: the lock is worth nothing then.
            var (held, named) = (stat(), stat())
            guard fstat(lock, &held) == 0, lstat(name, &named) == 0, held.st_ino == named.st_ino,
                held.st_dev == named.st_dev
            else { continue }
            defer { unlink(name) }
            return try body()
        }
    }

    /// Removes a socket nobody listens on any more; leaves everything else alone.
    private static func makeRoom(
        _ path: String, _ kind: __socket_type
    ) throws(ListenError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else { throw .notASocket(path) }
        let descriptor = try make(path, kind)
        defer { Glibc.close(descriptor) }
        if withAddress(path, { connect(descriptor, $0, $1) }) == 0 { throw .inUse(path) }
        switch errno {
        case ENOENT: return
        case ECONNREFUSED: unlink(path)
        // Somebody listens: EAGAIN says that the queue is full, EACCES that it is not for us, EPROTOTYPE that it is of another kind.
        default: throw .inUse(path)
        }
    }

    private static func make(
        _ path: String, _ kind: __socket_type
    ) throws(ListenError) -> Int32 {
        let flags = SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
        let descriptor = socket(AF_UNIX, Int32(kind.rawValue | flags), 0)
        guard descriptor >= 0 else { throw .failed(path, reason) }
        return descriptor
    }

    private static var reason: String { String(cString: strerror(errno)) }

    private static func fail(_ path: String, closing descriptor: Int32) -> ListenError {
        defer { Glibc.close(descriptor) }
        return .failed(path, reason)
    }

    private static func withAddress<R>(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        return withUnsafeBytes(of: &address) {
            body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
        }
    }
}
