// SPDX-License-Identifier: Apache-2.0

import Glibc
import NIOPosix
import TestSupport
import Testing

@testable import RPC

@Suite("Who owns a socket's path", .fewAtOnce, .bounded)
struct SocketPathTests {
    private func exists(_ path: String) -> Bool { access(path, F_OK) == 0 }

    @Test("a server that stops leaves the socket of another at its path, and no lock file")
    func another() async throws {
        let (first, second) = (TestServer(), TestServer())
        try first.start()
        unlink(first.path)
        try second.server.listen(on: .path(first.path, mode: 0o600))
        first.server.close()
        let client = try await RPCClient.connect(path: first.path)
        let answer: DetokenizeResponse = try await client.unary("t", "Echo", text("second"))
        #expect(answer.text.hasPrefix("second"))
        second.server.close()
        #expect(!exists(first.path) && !exists(first.path + ".lock"))
    }

    @Test("a file that has taken the place of the socket is left alone")
    func file() throws {
        let test = TestServer()
        try test.start()
        unlink(test.path)
        fclose(fopen(test.path, "w"))
        test.server.close()
        #expect(exists(test.path))
        unlink(test.path)
    }

    @Test("a lock file that was left behind by a killed process keeps nobody from starting")
    func staleLock() throws {
        let test = TestServer()
        fclose(fopen(test.path + ".lock", "w"))
        try test.start()
        test.server.close()
        #expect(!exists(test.path) && !exists(test.path + ".lock"))
    }

    @Test("of eight that start at once on a stale socket exactly one listens, and is reached")
    func together() async throws {
        let path = TestServer().path
        let pool = NIOThreadPool(numberOfThreads: 8)
        pool.start()
        for _ in 0..<20 {
            try UnixSocket.leaveBehind(path)
            let made = try await withThrowingTaskGroup(
                of: (descriptor: Int32, socket: SocketPath)?.self
            ) { group in
                for _ in 0..<8 {
                    group.addTask {
                        try await pool.runIfActive {
                            try? SocketPath.listen(path, mode: 0o600, backlog: 64)
                        }
                    }
                }
                var made: [(descriptor: Int32, socket: SocketPath)] = []
                for try await one in group { if let one { made.append(one) } }
                return made
            }
            try #require(made.count == 1)
            // Fails unless somebody listens.
            _ = try RawSocket(path)
            made[0].socket.remove()
            close(made[0].descriptor)
            try #require(!exists(path))
        }
        try await pool.shutdownGracefully()
    }
}
