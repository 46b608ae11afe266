// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Logging
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import RPC

/// A share server whose every request gets the one file there is; "later" waits until `release`, "never" for ever, "no" is refused.
private final class TestShare: Sendable {
    typealias Reply = @Sendable (Result<SharedFile, RPCError>) -> Void
    private final class Held: Sendable {
        let list = Mutex<[(Call, Reply, Result<SharedFile, RPCError>)]>([])
        let count = Mutex(0)
    }
    let file: FilePath
    let path: String
    let server: ShareServer
    private let held = Held()

    init(_ file: FilePath, _ change: (inout ShareServer.Configuration) -> Void = { _ in }) throws {
        self.file = file
        path = file.string + ".sock"
        var configuration = ShareServer.Configuration()
        configuration.administrator = nil
        change(&configuration)
        let descriptor = try FileDescriptor.open(file, .readOnly, options: .closeOnExec)
        final class Owner: Sendable {
            let descriptor: FileDescriptor
            init(_ descriptor: FileDescriptor) { self.descriptor = descriptor }
            deinit { try? descriptor.close() }
        }
        let owner = Owner(descriptor)
        server = ShareServer(
            configuration: configuration,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        ) { [held] request, call, reply in
            held.count.withLock { $0 += 1 }
            let answer = Result<SharedFile, RPCError>.success(
                SharedFile(
                    ShareResponse(name: request.model, digest: "\(call.peer.uid)"),
                    descriptor: owner.descriptor.rawValue, owner: owner))
            switch request.model {
            case "later", "never": held.list.withLock { $0.append((call, reply, answer)) }
            case "no": reply(.failure(RPCError(.notFound, "no such model")))
            default: reply(answer)
            }
        }
        try server.listen(on: .path(path, mode: 0o600))
    }

    var handled: Int { held.count.withLock { $0 } }
    var calls: [Call] { held.list.withLock { $0.map(\.0) } }

    func release() {
        let list = held.list.withLock { list in
            defer { list = [] }
            return list
        }
        for (_, reply, answer) in list { reply(answer) }
    }
}

private func withShare(
    _ change: (inout ShareServer.Configuration) -> Void = { _ in },
    body: (TestShare) async throws -> Void
) async throws {
    let directory = try makeTemporaryDirectory()
    defer { try? removeFile(directory) }
    let file = directory.appending("file")
    try write(Array("the file's bytes".utf8), to: file)
    let share = try TestShare(file, change)
    let result: Result<Void, any Error>
    do { result = .success(try await body(share)) } catch { result = .failure(error) }
    share.server.close()
    try result.get()
}

extension RawShareSocket {
    fileprivate func ask(_ model: String) { send(ShareRequest(model: model).encoded()) }

    /// The next answer's descriptor and name.
    fileprivate func file() throws -> (ShareResponse, FileDescriptor) {
        let (bytes, descriptor) = try receive()
        return (try ShareResponse(decoding: bytes), try #require(descriptor))
    }

    /// The next answer, which is an error.
    fileprivate func error() throws -> RPCError {
        let (bytes, descriptor) = try receive()
        #expect(descriptor == nil)
        return RPCError(try Status(decoding: bytes))
    }

    fileprivate var isAtEnd: Bool { (try? receive().bytes.isEmpty) == true }
}

@Suite("The share socket", .timeLimit(.minutes(10)), .serialized)
struct ShareServerTests {
    @Test(
        "each request gets a read-only, close-on-exec descriptor of the file, or an error and none")
    func several() async throws {
        try await withShare { share in
            let socket = try RawShareSocket(share.path)
            for name in ["a", "b", ""] {
                socket.ask(name)
                let (response, file) = try socket.file()
                #expect(response.name == name)
                #expect(response.digest == "\(getuid())")
                #expect(fcntl(file.rawValue, F_GETFL) & O_ACCMODE == O_RDONLY)
                #expect(fcntl(file.rawValue, F_GETFD) == FD_CLOEXEC)
                var bytes = [UInt8](repeating: 0, count: 100)
                let count = try bytes.withUnsafeMutableBytes {
                    try file.read(fromAbsoluteOffset: 0, into: $0)
                }
                #expect(String(decoding: bytes[..<count], as: UTF8.self) == "the file's bytes")
                try file.close()
                socket.ask("no")
                #expect(try socket.error().code == .notFound)
            }
        }
    }

    @Test(
        "what is no request is answered and the connection closed; descriptors it carries are not kept"
    )
    func malformed() async throws {
        try await withShare { share in
            let long = [UInt8](repeating: 10, count: ShareDatagram.requestLimit + 1)
            let other = try FileDescriptor.open(share.file, .readOnly)
            for (bytes, other) in [([0xff], -1), (long, -1), ([], other.rawValue)] {
                let socket = try RawShareSocket(share.path)
                // More behind it do not take the answer away.
                #expect(socket.send(bytes, with: other))
                socket.ask("a")
                #expect(try socket.error().code == .invalidArgument)
                #expect(socket.isAtEnd)
            }
            try other.close()
            #expect(share.handled == 0)
            #expect(openDescriptors(of: share.file) == 1)
        }
    }

    @Test("clients that die before their answer, or with it unread, leave no descriptor behind")
    func dying() async throws {
        try await withShare { share in
            for round in 0..<300 {
                let socket = try RawShareSocket(share.path)
                socket.ask(round % 3 == 0 ? "never" : "a")
                if round % 3 == 1 {
                    try await eventually { share.handled > round }
                }
            }
            try await eventually { share.server.openConnections == 0 }
            #expect(openDescriptors(of: share.file) == 1)
            let isCancelled = share.calls.allSatisfy { $0.isCancelled }
            #expect(isCancelled)
            share.release()
            let socket = try RawShareSocket(share.path)
            socket.ask("a")
            try socket.file().1.close()
        }
    }

    @Test(
        "a client that does not read has few requests taken up, and gets every answer in order when it does"
    )
    func slow() async throws {
        try await withShare { share in
            let (slow, quick) = (try RawShareSocket(share.path), try RawShareSocket(share.path))
            for number in 0..<50 { slow.ask("\(number)") }
            for _ in 0..<50 {
                quick.ask("quick")
                try quick.file().1.close()
            }
            #expect(share.handled - 50 <= 8)
            for number in 0..<50 {
                let (response, file) = try slow.file()
                #expect(response.name == "\(number)")
                try file.close()
            }
        }
    }

    @Test("an answer may come later, from any thread; the connection's next request waits for it")
    func later() async throws {
        try await withShare { share in
            let (first, second) = (try RawShareSocket(share.path), try RawShareSocket(share.path))
            first.ask("later")
            first.ask("b")
            second.ask("c")
            try second.file().1.close()
            try await eventually { share.calls.count == 1 }
            #expect(share.handled == 2)
            share.release()
            for name in ["later", "b"] {
                let (response, file) = try first.file()
                #expect(response.name == name)
                try file.close()
            }
        }
    }

    @Test(
        "one user's connections are limited; those beyond are told so once, then closed; then there is room"
    )
    func limits() async throws {
        try await withShare {
            $0.connections = 8
            $0.connectionsPerUser = 2
            $0.descriptors = 100
        } body: { share in
            let sockets = try (0..<2).map { _ in try RawShareSocket(share.path) }
            for socket in sockets {
                socket.ask("a")
                try socket.file().1.close()
            }
            let third = try RawShareSocket(share.path)
            third.ask("a")
            let error = try third.error()
            #expect(error.code == .resourceExhausted)
            #expect(error.reason == "TOO_MANY_CONNECTIONS")
            #expect(error.retryAfter != nil)
            #expect(third.isAtEnd)
            withExtendedLifetime(sockets) {}
            #expect(share.handled == 2)
        }
    }

    @Test("the administrator is always served")
    func administrator() async throws {
        try await withShare {
            $0.connectionsPerUser = 1
            $0.administrator = getuid()
        } body: { share in
            let sockets = try (0..<20).map { _ in try RawShareSocket(share.path) }
            for socket in sockets {
                socket.ask("a")
                try socket.file().1.close()
            }
        }
    }

    @Test("where descriptors would run out, the next connections wait until others are closed")
    func descriptors() async throws {
        try await withShare {
            $0.descriptors = 10
            $0.administrator = getuid()
        } body: { share in
            var sockets = try (0..<30).map { _ in try RawShareSocket(share.path) }
            try await eventually { share.server.openConnections == 10 }
            let last = sockets.removeLast()
            last.ask("a")
            sockets = []
            let (bytes, file) = try last.receive()
            #expect(!bytes.isEmpty)
            try file?.close()
        }
    }

    @Test("an idle server that stops accepting leaves who connects to the next that listens")
    func stopping() async throws {
        try await withShare { share in
            var open = [try RawShareSocket(share.path)]
            try await eventually { share.server.openConnections == open.count }
            #expect(!share.server.stopAcceptingIfIdle())
            open = []
            try await eventually { share.server.stopAcceptingIfIdle() }
            let late = try RawShareSocket(share.path)
            late.ask("a")
            #expect(share.server.openConnections == 0)
            share.server.resumeAccepting()
            let (bytes, file) = try late.receive()
            #expect(!bytes.isEmpty)
            try file?.close()
        }
    }

    @Test("a connection that keeps silent is closed when its time is over")
    func silent() async throws {
        try await withShare {
            $0.idleTime = 20_000_000
        } body: { share in
            let socket = try RawShareSocket(share.path)
            #expect(socket.isAtEnd)
            try await eventually { share.server.idleSince != nil }
        }
    }

    @Test("draining: its path is gone, open connections are still served, and closing ends them")
    func draining() async throws {
        try await withShare { share in
            let socket = try RawShareSocket(share.path)
            socket.ask("a")
            try socket.file().1.close()
            #expect(share.server.idleSince == nil)
            share.server.beginDrain()
            #expect(throws: Errno.noSuchFileOrDirectory) { try RawShareSocket(share.path) }
            socket.ask("b")
            try socket.file().1.close()
            share.server.close()
            #expect(socket.isAtEnd)
            #expect(share.server.idleSince != nil)
        }
    }

    @Test("more than one descriptor, or no room for one, is an error and leaves none open")
    func receiving() throws {
        var pair: [Int32] = [-1, -1]
        #expect(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &pair) == 0)
        defer { for end in pair { close(end) } }
        let directory = try makeTemporaryDirectory()
        defer { try? removeFile(directory) }
        let path = directory.appending("file")
        try write([1], to: path)
        let file = try FileDescriptor.open(path, .readOnly)
        defer { try? file.close() }
        sendTwo(file.rawValue, on: pair[0])
        var (bytes, found) = ([UInt8](repeating: 0, count: 4), Int32(-1))
        #expect(cl_receive_descriptor(pair[1], &bytes, 4, &found) == -EPROTO)
        #expect(cl_send_descriptor(pair[0], [1, 2, 3, 4, 5], 5, file.rawValue) == 5)
        #expect(cl_receive_descriptor(pair[1], &bytes, 4, &found) == -EMSGSIZE)
        #expect(found == -1)
        #expect(openDescriptors(of: path) == 1)
        #expect(cl_send_descriptor(pair[0], [1, 2], 2, -1) == 2)
        #expect(cl_receive_descriptor(pair[1], &bytes, 4, &found) == 2)
        #expect(found == -1)
    }
}

/// Sends one datagram with a descriptor twice.
private func sendTwo(_ descriptor: Int32, on socket: Int32) {
    // struct cmsghdr with SCM_RIGHTS and two ints, as x86-64 and arm64 have it.
    let file = UInt64(descriptor)
    var control: [UInt64] = [24, UInt64(SOL_SOCKET) | 1 << 32, file | file << 32]
    var byte: UInt8 = 1
    let sent = control.withUnsafeMutableBytes { control in
        withUnsafeMutableBytes(of: &byte) { bytes in
            var part = iovec(iov_base: bytes.baseAddress, iov_len: 1)
            return withUnsafeMutablePointer(to: &part) { part in
                var message = msghdr()
                message.msg_iov = part
                message.msg_iovlen = 1
                message.msg_control = control.baseAddress
                message.msg_controllen = control.count
                return sendmsg(socket, &message, 0)
            }
        }
    }
    #expect(sent == 1)
}
