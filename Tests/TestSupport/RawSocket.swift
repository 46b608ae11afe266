// SPDX-License-Identifier: Apache-2.0

package import Glibc

/// One end of a stream socket, which sends the very bytes it is told to. Waits without holding a thread, which other tests need.
package final class RawSocket: Sendable {
    package let descriptor: Int32

    /// What the system said.
    package struct Broken: Error, CustomStringConvertible {
        package let description: String
        init(_ what: String) { description = "\(what): \(String(cString: strerror(errno)))" }
    }

    /// Connects to the socket at `path`.
    package init(_ path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let connected = UnixSocket.withAddress(path) { connect(descriptor, $0, $1) }
        guard connected == 0 else { throw Broken("connect") }
    }

    /// Connects to a port of 127.0.0.1.
    package init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let connected = withUnsafeBytes(of: &address) {
            connect(
                descriptor, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self),
                socklen_t($0.count))
        }
        guard connected == 0 else { throw Broken("connect") }
    }

    fileprivate init(accepted: Int32) { descriptor = accepted }

    deinit { close(descriptor) }

    /// Tries until the system takes or gives something.
    private func transfer(_ what: String, _ body: () -> Int) async throws -> Int {
        var count = 0
        try await eventually {
            count = body()
            return count >= 0 || (errno != EAGAIN && errno != EINTR)
        }
        guard count > 0 else { throw Broken(what) }
        return count
    }

    package func send(_ bytes: [UInt8]) async throws {
        var rest = bytes[...]
        while !rest.isEmpty {
            rest = rest.dropFirst(try await transfer("send") { sendNow(rest) })
        }
    }

    /// Sends what the system takes at once.
    ///
    /// - Returns: how many bytes it took; negative when it takes nothing.
    package func sendNow(_ bytes: ArraySlice<UInt8>) -> Int {
        bytes.withUnsafeBytes {
            Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
        }
    }

    /// The other end has closed it, and everything before that was read.
    package var isClosed: Bool {
        var byte: UInt8 = 0
        let got = recv(descriptor, &byte, 1, Int32(MSG_DONTWAIT) | Int32(MSG_PEEK))
        return got == 0 || (got < 0 && errno == ECONNRESET)
    }

    /// Reads what there is, at most so many bytes.
    package func take(_ most: Int) -> Int {
        var bytes = [UInt8](repeating: 0, count: most)
        return max(0, recv(descriptor, &bytes, most, Int32(MSG_DONTWAIT)))
    }

    /// Ends both directions.
    package func shutdown() { _ = Glibc.shutdown(descriptor, Int32(SHUT_RDWR)) }

    /// Waits for some bytes; none when the other end has closed it.
    package func some() async throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 65536)
        var count = 0
        try await eventually {
            count = recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
            return count >= 0 || (errno != EAGAIN && errno != EINTR)
        }
        return Array(bytes[..<max(0, count)])
    }

    private func read(_ count: Int) async throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            done += try await transfer("recv") {
                bytes.withUnsafeMutableBytes {
                    recv(descriptor, $0.baseAddress! + done, count - done, Int32(MSG_DONTWAIT))
                }
            }
        }
        return bytes
    }

    package func frame() async throws
        -> (stream: UInt32, kind: UInt8, flags: UInt8, data: [UInt8])
    {
        let header = try await read(10)
        let (length, stream) = (
            header[0..<4].reduce(0) { $0 << 8 | UInt32($1) },
            header[4..<8].reduce(0) { $0 << 8 | UInt32($1) }
        )
        return (stream, header[8], header[9], try await read(Int(length)))
    }

    /// The bytes of a frame.
    package static func frame(_ stream: UInt32, kind: UInt8, flags: UInt8, _ data: [UInt8])
        -> [UInt8]
    {
        header(data.count, stream, kind: kind, flags: flags) + data
    }

    /// The ten bytes before `length` bytes of data.
    package static func header(_ length: Int, _ stream: UInt32, kind: UInt8, flags: UInt8)
        -> [UInt8]
    {
        func bytes(_ value: UInt32) -> [UInt8] {
            (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
        }
        return bytes(UInt32(length)) + bytes(stream) + [kind, flags]
    }
}

/// A socket at a path of its own that accepts when it is told to, and answers nothing.
package final class RawListener: Sendable {
    package let path: String
    package let descriptor: Int32

    package init(_ path: String = UnixSocket.newPath(), backlog: Int32 = 8) throws {
        self.path = path
        descriptor = socket(
            AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard UnixSocket.withAddress(path, { bind(descriptor, $0, $1) }) == 0,
            listen(descriptor, backlog) == 0
        else { throw RawSocket.Broken("listen") }
    }

    deinit {
        close(descriptor)
        unlink(path)
    }

    /// The next connection.
    package func accept() async throws -> RawSocket {
        var accepted: Int32 = -1
        try await eventually {
            accepted = Glibc.accept(descriptor, nil, nil)
            return accepted >= 0 || (errno != EAGAIN && errno != EINTR)
        }
        guard accepted >= 0 else { throw RawSocket.Broken("accept") }
        return RawSocket(accepted: accepted)
    }
}

package enum UnixSocket {
    /// A path in /tmp where nothing is.
    package static func newPath() -> String {
        "/tmp/mmfreed-tests-\(getpid())-\(UInt64.random(in: 0 ... .max)).sock"
    }

    package static func withAddress<R>(
        _ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R
    ) -> R {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        return withUnsafeBytes(of: &address) {
            body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
        }
    }

    /// A socket that takes datagrams, not connections. Its owner closes it.
    package static func datagram(_ path: String) throws -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        guard withAddress(path, { bind(descriptor, $0, $1) }) == 0 else {
            throw RawSocket.Broken("bind")
        }
        return descriptor
    }

    /// Leaves a socket in the file system that nobody listens on.
    package static func leaveBehind(_ path: String) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        guard withAddress(path, { bind(descriptor, $0, $1) }) == 0 else {
            throw RawSocket.Broken("bind")
        }
    }
}
