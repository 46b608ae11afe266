// SPDX-License-Identifier: Apache-2.0

import Glibc

@testable import RPC

/// A client that sends the very bytes it is told to.
final class RawSocket {
    private let descriptor: Int32

    struct Broken: Error {}

    init(_ path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let connected = SocketMaker.withAddress(path) { connect(descriptor, $0, $1) }
        guard connected == 0 else { throw Broken() }
        var limit = timeval(tv_sec: 60, tv_usec: 0)
        setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count <= 0 { return }
            rest = rest.dropFirst(count)
        }
    }

    /// The server has closed it, and everything before that was read. Does not wait.
    var isClosed: Bool {
        var byte: UInt8 = 0
        let got = recv(descriptor, &byte, 1, Int32(MSG_DONTWAIT | MSG_PEEK))
        return got == 0 || (got < 0 && errno == ECONNRESET)
    }

    /// Reads what there is, at most so many bytes. Does not wait.
    func take(_ most: Int) -> Int {
        var bytes = [UInt8](repeating: 0, count: most)
        return max(0, recv(descriptor, &bytes, most, Int32(MSG_DONTWAIT)))
    }

    private func read(_ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = bytes.withUnsafeMutableBytes {
                recv(descriptor, $0.baseAddress! + done, count - done, 0)
            }
            guard got > 0 else { throw Broken() }
            done += got
        }
        return bytes
    }

    func frame() throws -> (stream: UInt32, kind: UInt8, data: [UInt8]) {
        let header = try read(10).map { UInt32($0) }
        let length = header[0] << 24 | header[1] << 16 | header[2] << 8 | header[3]
        let stream = header[4] << 24 | header[5] << 16 | header[6] << 8 | header[7]
        return (stream, UInt8(header[8]), try read(Int(length)))
    }

    func response() throws -> (stream: UInt32, response: Response) {
        let frame = try frame()
        guard frame.kind == 2 else { throw Broken() }
        return (frame.stream, try Response(decoding: frame.data))
    }
}

enum SocketMaker {
    static func withAddress<R>(_ path: String, _ body: (UnsafePointer<sockaddr>, socklen_t) -> R)
        -> R
    {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        return withUnsafeBytes(of: &address) {
            body($0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
        }
    }

    /// A listening socket that accepts nothing by itself.
    static func listen(_ path: String, backlog: Int32) throws -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard withAddress(path, { bind(descriptor, $0, $1) }) == 0,
            Glibc.listen(descriptor, backlog) == 0
        else { throw RawSocket.Broken() }
        return descriptor
    }

    /// A socket that takes datagrams, not connections.
    static func datagram(_ path: String) throws -> Int32 {
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        guard withAddress(path, { bind(descriptor, $0, $1) }) == 0 else { throw RawSocket.Broken() }
        return descriptor
    }

    /// A socket in the file system that nobody listens on.
    static func leaveBehind(_ path: String) throws {
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        guard withAddress(path, { bind(descriptor, $0, $1) }) == 0 else { throw RawSocket.Broken() }
    }
}
