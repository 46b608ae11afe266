// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// The client's end of a connection: sends requests, and sorts the frames that come back. Lives on its channel's loop.
final class ClientConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Who waits for a stream's frames.
    struct Waiter {
        /// A message of a streamed answer.
        var message: (([UInt8]) -> Void)?
        /// The end: a unary answer's payload, or nothing for a stream.
        var end: (Result<[UInt8], ClientError>) -> Void
    }

    private var decoder = FrameDecoder()
    private var waiters: [UInt32: Waiter] = [:]
    private var next: UInt32 = 1
    private var isClosed = false

    /// Starts a call; returns its stream.
    @discardableResult
    func start(
        _ request: Request, streaming: Bool, _ waiter: Waiter, on channel: any Channel
    ) -> UInt32 {
        let data = request.encoded()
        guard !isClosed, next < UInt32.max - 2 else {
            waiter.end(.failure(.disconnected))
            return 0
        }
        guard data.count <= FrameHeader.dataLimit else {
            waiter.end(
                .failure(
                    .rpc(
                        RPCError(
                            .resourceExhausted,
                            "a request of \(data.count) bytes; the limit is \(FrameHeader.dataLimit)",
                            reason: "FRAME_TOO_LARGE"
                        ))))
            return 0
        }
        let stream = next
        next += 2
        waiters[stream] = waiter
        let frame = Frame(
            stream: stream, kind: .request, flags: streaming ? .remoteClosed : [], data: data)
        var buffer = channel.allocator.buffer(capacity: FrameHeader.size + data.count)
        frame.write(to: &buffer)
        channel.writeAndFlush(buffer, promise: nil)
        return stream
    }

    /// Ends a call from this side.
    func abandon(_ stream: UInt32, _ error: ClientError) {
        waiters.removeValue(forKey: stream)?.end(.failure(error))
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        decoder.append(unwrapInboundIn(data))
        do {
            while let event = try decoder.next() {
                switch event {
                case .frame(let frame): receive(frame)
                case .oversize(let header):
                    abandon(header.stream, .garbled("a frame of \(header.length) bytes"))
                }
            }
        } catch {
            fail(.garbled("a frame of type \(error.kind)"))
            context.close(promise: nil)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        fail(.disconnected)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        fail(.disconnected)
        context.close(promise: nil)
    }

    private func fail(_ error: ClientError) {
        isClosed = true
        let all = waiters.values
        waiters = [:]
        for waiter in all { waiter.end(.failure(error)) }
    }

    private func receive(_ frame: Frame) {
        let stream = frame.header.stream
        guard let waiter = waiters[stream] else { return }
        switch frame.header.kind {
        case .request: return
        case .data:
            if !frame.header.flags.contains(.noData) { waiter.message?(frame.data) }
            guard frame.header.flags.contains(.remoteClosed) else { return }
            waiters.removeValue(forKey: stream)
            waiter.end(.success([]))
        case .response:
            waiters.removeValue(forKey: stream)
            do {
                let response = try Response(decoding: frame.data)
                let status = response.status ?? Status()
                waiter.end(
                    status.code == 0
                        ? .success(response.payload) : .failure(.rpc(RPCError(status))))
            } catch {
                waiter.end(.failure(.garbled("\(error)")))
            }
        }
    }
}
