// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import RPC
import SystemPackage

/// The client's side of a daemon's share socket. Blocks, for at most ten seconds each way.
package enum ShareSocket {
    /// Asks for a descriptor and closes it: what that takes is a figure.
    package static func probe(model: String, socket: String?) async throws {
        try await onThread("mmf-share") {
            try ask(ShareRequest(model: model), paths(socket)).1.close()
        }
    }

    /// Where share sockets may be, in the order to try.
    static func paths(_ socket: String?) throws(MMFreeError) -> [String] {
        if socket == nil, let named = environmentVariable("MMFREED_SHARE_SOCKET") {
            return [try SocketChoice.path(named, "$MMFREED_SHARE_SOCKET")]
        }
        return try SocketChoice(given: socket, name: "socket").paths.map {
            FilePath($0).removingLastComponent().appending("share.sock").string
        }
    }

    /// Asks the first socket that can be reached.
    static func ask(
        _ request: ShareRequest, _ paths: [String]
    ) throws(MMFreeError) -> (ShareResponse, FileDescriptor) {
        var problem = MMFreeError(.internal, "there is no share socket to try")
        for (index, path) in paths.enumerated() {
            do throws(MMFreeError) {
                let socket = try connect(path)
                defer { try? socket.close() }
                return try ask(request, on: socket, path)
            } catch {
                guard error.reason == "NO_SOCKET" || error.reason == "NOT_LISTENING" else {
                    throw error
                }
                // The standard place is the one to speak of.
                if index == 0 { problem = error }
            }
        }
        throw problem
    }

    private static func connect(_ path: String) throws(MMFreeError) -> FileDescriptor {
        let number = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard number >= 0 else { throw failure(errno, path) }
        let descriptor = FileDescriptor(rawValue: number)
        var limit = timeval(tv_sec: 10, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(number, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count <= SocketSpelling.limit else {
            try? descriptor.close()
            throw MMFreeError(
                .invalidArgument,
                "\(path): a socket's path has at most \(SocketSpelling.limit) bytes",
                reason: "BAD_SOCKET_PATH")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0 else {
            let problem = errno
            try? descriptor.close()
            throw failure(problem, path)
        }
        return descriptor
    }

    private static func ask(
        _ request: ShareRequest, on socket: FileDescriptor, _ path: String
    ) throws(MMFreeError) -> (ShareResponse, FileDescriptor) {
        let question = request.encoded()
        // An empty datagram needs an address all the same.
        let sent = (question.isEmpty ? [0] : question).withUnsafeBytes {
            cl_send_descriptor(socket.rawValue, $0.baseAddress!, question.count, -1)
        }
        guard sent >= 0 else { throw failure(-sent, path) }
        var number: Int32 = -1
        var answer = [UInt8](repeating: 0, count: 64 << 10)
        let count = answer.withUnsafeMutableBytes {
            cl_receive_descriptor(socket.rawValue, $0.baseAddress!, $0.count, &number)
        }
        guard count > 0 else {
            if count < 0 { throw failure(-count, path) }
            if number >= 0 { close(number) }
            throw MMFreeError(.disconnected)
        }
        guard number >= 0 else {
            guard let status = try? Status(decoding: answer[..<Int(count)]), status.code != 0 else {
                throw MMFreeError(.garbled("neither a descriptor nor a status"))
            }
            throw MMFreeError(.rpc(RPCError(status)))
        }
        guard let response = try? ShareResponse(decoding: answer[..<Int(count)]) else {
            close(number)
            throw MMFreeError(.garbled("a descriptor without a ShareResponse"))
        }
        return (response, FileDescriptor(rawValue: number))
    }

    private static func failure(_ number: Int32, _ path: String) -> MMFreeError {
        switch number {
        case ENOENT, ENOTDIR:
            var error = MMFreeError(.noSocket(path))
            error.message =
                "no daemon shares models on \(path): the system's does when mmfreed-share.socket is started, others with --share-socket"
            return error
        case ECONNREFUSED: return MMFreeError(.refused(path))
        case EACCES, EPERM: return MMFreeError(.notAllowed(path))
        case EAGAIN: return MMFreeError(.timeout)
        case EPIPE, ECONNRESET: return MMFreeError(.disconnected)
        default:
            return MMFreeError(
                .cannotConnect(path, Errno(rawValue: number).description))
        }
    }
}
