// SPDX-License-Identifier: Apache-2.0

import Glibc

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

/// The place in the file system where a socket is to be made.
enum SocketPath {
    static let limit = 107

    /// Removes a socket nobody listens on any more; leaves everything else alone.
    static func makeRoom(_ path: String) throws(ListenError) {
        guard path.utf8.count <= limit else { throw .tooLong(path, limit: limit) }
        var status = stat()
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else { throw .notASocket(path) }
        let descriptor = try make(path)
        defer { Glibc.close(descriptor) }
        if withAddress(path, { connect(descriptor, $0, $1) }) == 0 { throw .inUse(path) }
        switch errno {
        case ENOENT: return
        case ECONNREFUSED: unlink(path)
        // Somebody listens: EAGAIN says that the queue is full, EACCES that it is not for us.
        default: throw .inUse(path)
        }
    }

    /// Makes a socket at a path. Nobody may connect before its permissions are right: until then it has none.
    static func bind(_ path: String, mode: UInt16) throws(ListenError) -> Int32 {
        let descriptor = try make(path)
        // On Linux a socket's name takes its permissions from the socket itself.
        guard fchmod(descriptor, 0) == 0,
            withAddress(path, { Glibc.bind(descriptor, $0, $1) }) == 0,
            chmod(path, mode_t(mode)) == 0
        else {
            let reason =
                errno == ENOENT
                ? "its directory does not exist" : String(cString: strerror(errno))
            Glibc.close(descriptor)
            throw .failed(path, reason)
        }
        return descriptor
    }

    /// A socket that never makes its caller wait.
    private static func make(_ path: String) throws(ListenError) -> Int32 {
        let kind = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let descriptor = socket(AF_UNIX, kind, 0)
        guard descriptor >= 0 else { throw .failed(path, String(cString: strerror(errno))) }
        return descriptor
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
