// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import Glibc
import ModelStore
import RPC
import SystemPackage
import TestSupport
import Testing

@testable import MMFree

/// A share socket that gives one answer to one request.
private struct FakeShare {
    let socket: String
    private let listener: Int32

    init(in directory: FilePath) throws {
        socket = directory.appending("share.sock").string
        listener = Glibc.socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: socket.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let isBound = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, size) } == 0
        }
        try #require(isBound && listen(listener, 8) == 0)
    }

    /// Takes a request, answers with `bytes` and the file at `path`, and closes.
    ///
    /// - Returns: the request.
    func answer(_ bytes: [UInt8]?, _ path: FilePath?) async throws -> ShareRequest {
        let listener = listener
        return try await onThread("share") {
            var peer = cl_credentials()
            let connection = FileDescriptor(rawValue: cl_accept_datagrams(listener, &peer))
            defer { try? connection.close() }
            var ready = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
            poll(&ready, 1, -1)
            var request = [UInt8](repeating: 0, count: 4096)
            let count = request.withUnsafeMutableBytes {
                cl_receive_datagram(connection.rawValue, $0.baseAddress!, $0.count)
            }
            let file = try path.map { try FileDescriptor.open($0, .readOnly) }
            if let bytes {
                _ = (bytes.isEmpty ? [0] : bytes).withUnsafeBytes {
                    cl_send_descriptor(
                        connection.rawValue, $0.baseAddress!, bytes.count, file?.rawValue ?? -1)
                }
            }
            try file?.close()
            return try ShareRequest(decoding: request[..<Int(max(0, count))])
        }
    }
}

@Suite("the share socket, asked", .fewAtOnce, .bounded)
struct ShareSocketTests {
    /// What becomes of asking for a model when the daemon answers so.
    private func ask(
        _ answer: (FilePath) throws -> ([UInt8]?, FilePath?)
    ) async throws -> Result<SharedModel, any Error> {
        try await withModels { directory in
            let share = try FakeShare(in: directory)
            let file = TestSupport.model("tiny", in: directory)
            let (bytes, path) = try answer(file)
            async let request = share.answer(bytes, path)
            let result: Result<SharedModel, any Error>
            do {
                result = .success(
                    try await SharedModel.shared(
                        model: "tiny", socket: directory.appending("mmfreed.sock").string))
            } catch { result = .failure(error) }
            #expect(try await request.model == "tiny")
            if case .failure = result { #expect(openDescriptors(of: file) == 0) }
            return result
        }
    }

    private func response(_ path: FilePath) throws -> ShareResponse {
        let file = try PackedFile(path: path)
        return ShareResponse(
            name: "tiny", digest: file.modelDigest, fileBytes: UInt64(file.byteCount),
            formatVersion: 1, protection: .sealed)
    }

    @Test("a descriptor becomes a model, which outlives the file's name")
    func descriptor() async throws {
        let model = try await ask { (try response($0).encoded(), $0) }.get()
        #expect(model.info.name == "tiny")
        #expect(model.info.protection == .sealed)
        #expect(try await model.embed("a").dimensions == TinyModel.hidden)
    }

    @Test("a status is the daemon's error")
    func status() async throws {
        let status = Status(code: RPCCode.notFound.rawValue, message: "there is no model 'tiny'")
        let result = try await ask { _ in (status.encoded(), nil) }
        let error = await failure { _ = try result.get() } as? MMFreeError
        #expect(error?.code == .notFound)
        #expect(error?.message == "there is no model 'tiny'")
        #expect(error?.isFromDaemon == true)
    }

    @Test("an answer that makes no sense is told, and its descriptor is closed")
    func garbled() async throws {
        let other = try await ask { path in
            var response = try response(path)
            response.digest = String(repeating: "0", count: 64)
            return (response.encoded(), path)
        }
        #expect((await failure { _ = try other.get() } as? MMFreeError)?.code == .dataLoss)
        let nonsense = try await ask { ([0xFF, 0xFF], $0) }
        #expect((await failure { _ = try nonsense.get() } as? MMFreeError)?.code == .internal)
        let bare = try await ask { (try response($0).encoded(), nil) }
        #expect((await failure { _ = try bare.get() } as? MMFreeError)?.code == .internal)
        let silent = try await ask { _ in (nil, nil) }
        #expect(
            (await failure { _ = try silent.get() } as? MMFreeError)?.reason == "DISCONNECTED")
    }

    @Test("where nobody shares, the message says how to")
    func absent() async throws {
        try await withModels { directory in
            let error =
                await failure {
                    _ = try await SharedModel.shared(
                        socket: directory.appending("mmfreed.sock").string)
                } as? MMFreeError
            #expect(error?.code == .unavailable)
            #expect(error?.message.contains("\(directory)/share.sock") == true)
            #expect(error?.message.contains("--share-socket") == true)
        }
    }
}
