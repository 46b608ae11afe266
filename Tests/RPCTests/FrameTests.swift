// SPDX-License-Identifier: Apache-2.0

import NIOCore
import TestSupport
import Testing

@testable import RPC

@Suite("Frames")
struct FrameTests {
    private func decode(_ bytes: [UInt8], step: Int, limit: Int = 64) throws -> [FrameDecoder.Event]
    {
        var decoder = FrameDecoder(limit: limit)
        var events: [FrameDecoder.Event] = []
        var start = 0
        while start < bytes.count {
            let end = min(start + step, bytes.count)
            decoder.append(ByteBuffer(bytes: bytes[start..<end]))
            start = end
            while let event = try decoder.next() { events.append(event) }
        }
        return events
    }

    @Test("a frame is ten bytes of header, big-endian, and its data")
    func layout() {
        var buffer = ByteBuffer()
        Frame(stream: 0x0102_0305, kind: .data, flags: [.remoteClosed, .noData], data: [7, 8])
            .write(to: &buffer)
        #expect(Array(buffer.readableBytesView) == [0, 0, 0, 2, 1, 2, 3, 5, 3, 5, 7, 8])
    }

    @Test("bytes cut anywhere give the same frames", arguments: [1, 2, 3, 9, 10, 11, 1000])
    func cut(_ step: Int) throws {
        var random = SeededGenerator(1)
        var buffer = ByteBuffer()
        let frames = (0..<50).map { index in
            Frame(
                stream: UInt32(2 * index + 1), kind: [.request, .response, .data][index % 3],
                data: (0..<Int.random(in: 0...64, using: &random)).map { UInt8($0) })
        }
        for frame in frames { frame.write(to: &buffer) }
        #expect(
            try decode(Array(buffer.readableBytesView), step: step) == frames.map { .frame($0) })
    }

    @Test(
        "a frame that is too large is announced, skipped, and the next one read",
        arguments: [1, 7, 4096])
    func oversize(_ step: Int) throws {
        var buffer = ByteBuffer()
        Frame(stream: 1, kind: .request, data: .init(repeating: 9, count: 65)).write(to: &buffer)
        let next = Frame(stream: 3, kind: .request, data: [1])
        next.write(to: &buffer)
        let events = try decode(Array(buffer.readableBytesView), step: step)
        #expect(
            events == [
                .oversize(FrameHeader(length: 65, stream: 1, kind: .request)), .frame(next),
            ])
    }

    @Test("bytes that are no frames are told apart by their type")
    func lost() {
        // The ninth byte is the type.
        #expect(throws: FrameDecoder.Lost(kind: UInt8(ascii: "T"))) {
            try decode(Array("GET / HTTP/1.1\r\n".utf8), step: 64)
        }
    }

    @Test("many frames that come at once do not each move all that is behind them")
    func many() throws {
        var buffer = ByteBuffer()
        for _ in 0..<10_000 { Frame(stream: 1, kind: .data, data: []).write(to: &buffer) }
        buffer.writeRepeatingByte(0, count: 32 << 20)
        var decoder = FrameDecoder()
        // Behind the beginning of a frame. Moved after each, it would be a third of a terabyte: more than a minute.
        for piece in [buffer.readSlice(length: 5), buffer] {
            decoder.append(try #require(piece))
        }
        let count = try (0..<10_000).count { _ in try decoder.next() != nil }
        #expect(count == 10_000)
    }

    @Test("random bytes end in frames or in the one error, and are not hoarded")
    func noise() {
        var random = SeededGenerator(2)
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...60, using: &random)).map { _ in
                UInt8.random(in: 0...5, using: &random)
            }
            do { _ = try decode(bytes, step: 13) } catch { #expect(error is FrameDecoder.Lost) }
        }
        var (decoder, most) = (FrameDecoder(limit: 64), 0)
        for _ in 0..<20_000 {
            // Types that there are, lengths up to twice the limit, and pieces that end anywhere.
            let frame = Frame(
                stream: 1, kind: .data,
                data: .init(repeating: 0, count: .random(in: 0...128, using: &random)))
            var bytes = ByteBuffer()
            frame.write(to: &bytes)
            while let piece = bytes.readSlice(length: min(13, bytes.readableBytes)),
                piece.readableBytes > 0
            {
                decoder.append(piece)
                while (try? decoder.next()) != nil {}
                most = max(most, decoder.held)
            }
        }
        #expect(most < 1024)
    }
}

@Suite("A connection's streams")
struct ServerStreamsTests {
    private func request(_ stream: UInt32, _ flags: FrameHeader.Flags = [], data: [UInt8]? = nil)
        -> Frame
    {
        var request = Request()
        request.service = "s"
        request.method = "m"
        return Frame(stream: stream, kind: .request, flags: flags, data: data ?? request.encoded())
    }

    private func code(_ action: ServerStreams.Action) -> RPCCode? {
        switch action {
        case .refuse(_, let error), .refuseAndClose(_, let error): error.code
        case .start, .cancel, .ignore: nil
        }
    }

    @Test("no flags ask for one answer, 'remote closed' for a stream")
    func modes() {
        var streams = ServerStreams(limit: 4)
        guard case .start(1, .unary, let first) = streams.receive(request(1)),
            case .start(3, .streaming, _) = streams.receive(request(3, .remoteClosed))
        else {
            Issue.record("not started")
            return
        }
        #expect(first.method == "m")
        #expect(streams.open == [1, 3])
        streams.end(1)
        #expect(streams.open == [3])
    }

    @Test(
        "streams are odd and rise; anything else ends the connection",
        arguments: [[2], [0], [3, 3], [5, 1]])
    func order(_ ids: [UInt32]) {
        var streams = ServerStreams(limit: 9)
        var last = ServerStreams.Action.ignore
        for id in ids { last = streams.receive(request(id)) }
        guard case .refuseAndClose(_, let error) = last else {
            Issue.record("\(last)")
            return
        }
        #expect(error.code == .invalidArgument)
    }

    @Test(
        "too many streams, a client's stream, a broken request and a response are refused by their codes"
    )
    func refusals() {
        var streams = ServerStreams(limit: 1)
        #expect(code(streams.receive(request(1, .remoteOpen))) == .unimplemented)
        #expect(code(streams.receive(request(3, data: [0xff, 0xff]))) == .invalidArgument)
        _ = streams.receive(request(5))
        #expect(code(streams.receive(request(7))) == .resourceExhausted)
        #expect(code(streams.receive(Frame(stream: 5, kind: .data, data: [1]))) == .unimplemented)
        #expect(streams.receive(Frame(stream: 99, kind: .data, data: [1])) == .ignore)
        #expect(
            code(streams.receive(Frame(stream: 5, kind: .response, data: []))) == .invalidArgument)
    }

    @Test("a caller that closes its stream cancels its call, and no other")
    func closed() {
        var streams = ServerStreams(limit: 4)
        _ = streams.receive(request(1))
        _ = streams.receive(request(3, .remoteClosed))
        func close(_ stream: UInt32, _ flags: FrameHeader.Flags) -> ServerStreams.Action {
            streams.receive(Frame(stream: stream, kind: .data, flags: flags, data: []))
        }
        #expect(close(1, [.remoteClosed, .noData]) == .cancel(stream: 1))
        #expect(close(3, [.remoteClosed, .noData]) == .cancel(stream: 3))
        #expect(close(3, .noData) == .ignore)
        #expect(close(5, [.remoteClosed, .noData]) == .ignore)
    }

    @Test("frames that are too large follow the same rules as others")
    func oversize() {
        var streams = ServerStreams(limit: 4)
        func receive(_ stream: UInt32, _ kind: FrameHeader.Kind) -> ServerStreams.Action {
            streams.receiveOversize(FrameHeader(length: 5 << 20, stream: stream, kind: kind))
        }
        #expect(code(receive(9, .request)) == .resourceExhausted)
        #expect(receive(9, .data) == .ignore)
        _ = streams.receive(request(11))
        #expect(code(receive(11, .data)) == .resourceExhausted)
        #expect(code(receive(11, .request)) == .invalidArgument)
        #expect(code(receive(11, .response)) == .invalidArgument)
        let ends = [streams.end(11), streams.end(11)]
        #expect(ends == [true, false])
    }
}
