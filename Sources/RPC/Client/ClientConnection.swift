// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// The client's end of a connection: writes requests, and hands what comes back to the calls' consumers. Lives on its channel's
/// loop.
final class ClientConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer
    typealias Consumer = CheckedContinuation<ClientStreams.Taken, Never>

    private let channel: any Channel
    private var decoder = FrameDecoder()
    private var streams = ClientStreams()
    private var consumers: [ClientStreams.ID: Consumer] = [:]
    private var deadlines: [ClientStreams.ID: Scheduled<Void>] = [:]
    private let patience: Patience
    private var liveness: Liveness
    private var check: Scheduled<Void>?
    private var isReading = true
    private var isClosed = false

    /// The field `metadata` of every request.
    private let metadata: [UInt8]

    init(_ channel: any Channel, _ patience: Patience, onBehalfOf user: UInt32? = nil) {
        self.channel = channel
        self.patience = patience
        metadata = user.map { RequestHead.metadata(onBehalfOf: $0) } ?? []
        liveness = Liveness(patience)
    }

    private var now: UInt64 { channel.eventLoop.now.uptimeNanoseconds }

    private func after(_ nanoseconds: UInt64, _ body: @escaping () -> Void) -> Scheduled<Void> {
        channel.eventLoop.assumeIsolated()
            .scheduleTask(in: .nanoseconds(Int64(clamping: nanoseconds)), body)
    }

    var kept: (calls: Int, bytes: Int) {
        (streams.kept.calls + consumers.count + deadlines.count, streams.kept.bytes)
    }

    // MARK: Calls

    /// Starts a call. What becomes of it, a refusal included, is told to its consumer.
    ///
    /// - Parameter timeout: nanoseconds; the daemon has them, and this side a grace more.
    func start(
        _ id: ClientStreams.ID, _ request: Request, isStreaming: Bool, timeout: UInt64?
    ) {
        let data = request.encoded() + metadata
        guard data.count <= FrameHeader.dataLimit else {
            return streams.refuse(
                id,
                .rpc(
                    RPCError(
                        .resourceExhausted,
                        "a request of \(data.count) bytes; the limit is \(FrameHeader.dataLimit)",
                        reason: "FRAME_TOO_LARGE")))
        }
        guard !isClosed, let stream = streams.newStream() else {
            return streams.refuse(id, .disconnected)
        }
        streams.open(id, stream: stream, isStreaming: isStreaming)
        if let timeout {
            let time = min(timeout, .max - patience.grace) + patience.grace
            deadlines[id] = after(time) { [self] in leave(id, streams.expire(id)) }
        }
        write(.request, stream, isStreaming ? .remoteClosed : [], data)
        if check == nil {
            liveness.hear(now: now)
            checkLiveness()
        }
    }

    /// Gives the consumer what waits for it, now or when it comes. One consumer for each call.
    func next(_ id: ClientStreams.ID, _ consumer: Consumer) {
        consumers[id] = consumer
        deliver(id)
        updateReading()
    }

    /// Ends a call from this side. Its consumer gets `.cancelled`.
    func cancel(_ id: ClientStreams.ID) { leave(id, streams.cancel(id)) }

    /// The consumer is gone.
    func drop(_ id: ClientStreams.ID) {
        cancel(id)
        streams.drop(id)
        deadlines.removeValue(forKey: id)?.cancel()
        updateReading()
    }

    /// Tells the daemon that nobody wants the rest of a stream's answer.
    private func leave(_ id: ClientStreams.ID, _ stream: UInt32?) {
        if let stream, !isClosed { write(.data, stream, [.remoteClosed, .noData], []) }
        deliver(id)
        updateReading()
    }

    private func deliver(_ id: ClientStreams.ID) {
        guard let consumer = consumers.removeValue(forKey: id) else { return }
        guard let taken = streams.take(id) else {
            consumers[id] = consumer
            return
        }
        if case .end = taken { deadlines.removeValue(forKey: id)?.cancel() }
        consumer.resume(returning: taken)
    }

    private func write(
        _ kind: FrameHeader.Kind, _ stream: UInt32, _ flags: FrameHeader.Flags, _ data: [UInt8]
    ) {
        var buffer = channel.allocator.buffer(capacity: FrameHeader.size + data.count)
        Frame(stream: stream, kind: kind, flags: flags, data: data).write(to: &buffer)
        channel.writeAndFlush(buffer, promise: nil)
    }

    /// Backpressure: a socket that is not read fills up, and the daemon waits.
    private func updateReading() {
        guard streams.readsOn != isReading else { return }
        isReading.toggle()
        // Our own silence is none of the daemon's.
        if isReading { liveness.hear(now: now) }
        _ = channel.setOption(.autoRead, value: isReading)
    }

    // MARK: Liveness

    private func checkLiveness() {
        guard streams.isOwed, !isClosed else {
            check = nil
            return
        }
        if !isReading { liveness.hear(now: now) }
        let time: UInt64
        switch liveness.check(now: now) {
        case .wait(let rest): time = rest
        case .ask:
            ask()
            time = patience.answer
        case .dead:
            check = nil
            let seconds = Double(patience.silence + patience.answer) / 1e9
            return close(.unresponsive(seconds: seconds))
        }
        check = after(time) { [self] in checkLiveness() }
    }

    /// Any answer will do, so nobody waits for this one.
    private func ask() {
        guard let stream = streams.newStream() else { return }
        let request = Request(
            service: ServiceName.health, method: "Check",
            timeoutNano: Int64(clamping: patience.answer))
        write(.request, stream, [], request.encoded() + metadata)
    }

    // MARK: The channel

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        liveness.hear(now: now)
        decoder.append(unwrapInboundIn(data))
        do {
            while let event = try decoder.next() {
                let id =
                    switch event {
                    case .frame(let frame): streams.receive(frame)
                    case .oversize(let header): streams.receiveOversize(header)
                    }
                if let id { deliver(id) }
            }
        } catch {
            close(.garbled("a frame of type \(error.kind)"))
        }
        updateReading()
    }

    func channelInactive(context: ChannelHandlerContext) {
        close(.disconnected)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { close(.disconnected) }

    /// Ends all calls, each with one error, once.
    func close(_ error: ClientError) {
        guard !isClosed else { return }
        isClosed = true
        check?.cancel()
        for id in streams.fail(error) { deliver(id) }
        for deadline in deadlines.values { deadline.cancel() }
        deadlines = [:]
        channel.close(promise: nil)
    }
}
