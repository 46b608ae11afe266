// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// The client's end of a connection: writes requests, and puts what comes back into the calls' inbox. Lives on its channel's loop.
final class ClientConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let channel: any Channel
    private var decoder = FrameDecoder()
    private let inbox: ClientInbox
    private var deadlines: [ClientStreams.ID: Scheduled<Void>] = [:]
    private let patience: Patience
    private var liveness: Liveness
    private var check: Scheduled<Void>?
    private var isReading = true
    private var isClosed = false

    /// The field `metadata` of every request.
    private let metadata: [UInt8]

    init(
        _ channel: any Channel, _ inbox: ClientInbox, _ patience: Patience,
        onBehalfOf user: UInt32? = nil
    ) {
        self.channel = channel
        self.inbox = inbox
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
        let kept = inbox.kept
        return (kept.calls + deadlines.count, kept.bytes)
    }

    // MARK: Calls

    /// Writes the request of a call that has begun. What becomes of it, a refusal included, is told to its consumer.
    ///
    /// - Parameter timeout: nanoseconds; the daemon has them, and this side a grace more.
    func start(
        _ id: ClientStreams.ID, _ request: Request, isStreaming: Bool, timeout: UInt64?
    ) {
        let data = request.encoded() + metadata
        guard data.count <= FrameHeader.dataLimit else {
            return refuse(
                id,
                .rpc(
                    RPCError(
                        .resourceExhausted,
                        "a request of \(data.count) bytes; the limit is \(FrameHeader.dataLimit)",
                        reason: "FRAME_TOO_LARGE")))
        }
        guard !isClosed else { return refuse(id, .disconnected) }
        guard let stream = inbox.update({ ($0.open(id), [id]) }) else { return }
        if let timeout {
            let time = min(timeout, .max - patience.grace) + patience.grace
            deadlines[id] = after(time) { [self] in
                deadlines[id] = nil
                leave(inbox.update { ($0.expire(id), [id]) })
            }
        }
        write(.request, stream, isStreaming ? .remoteClosed : [], data)
        if check == nil {
            liveness.hear(now: now)
            checkLiveness()
        }
    }

    private func refuse(_ id: ClientStreams.ID, _ error: ClientError) {
        inbox.update { ($0.refuse(id, error), [id]) }
    }

    /// A call has ended from this side.
    ///
    /// - Parameter stream: on which the daemon may still answer.
    func end(_ id: ClientStreams.ID, _ stream: UInt32?) {
        deadlines.removeValue(forKey: id)?.cancel()
        leave(stream)
    }

    /// Tells the daemon that nobody wants the rest of a stream's answer.
    private func leave(_ stream: UInt32?) {
        if let stream, !isClosed { write(.data, stream, [.remoteClosed, .noData], []) }
        updateReading()
    }

    private func write(
        _ kind: FrameHeader.Kind, _ stream: UInt32, _ flags: FrameHeader.Flags, _ data: [UInt8]
    ) {
        var buffer = channel.allocator.buffer(capacity: FrameHeader.size + data.count)
        Frame(stream: stream, kind: kind, flags: flags, data: data).write(to: &buffer)
        channel.writeAndFlush(buffer, promise: nil)
    }

    /// Backpressure: a socket that is not read fills up, and the daemon waits.
    func updateReading() {
        guard let reads = inbox.readsOn() else { return }
        isReading = reads
        // Our own silence is none of the daemon's.
        if isReading { liveness.hear(now: now) }
        _ = channel.setOption(.autoRead, value: isReading)
    }

    // MARK: Liveness

    private func checkLiveness() {
        guard inbox.isOwed, !isClosed else {
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
        guard let stream = inbox.update({ ($0.newStream(), []) }) else { return }
        let request = Request(
            service: ServiceName.health, method: "Check",
            timeoutNano: Int64(clamping: patience.answer))
        write(.request, stream, [], request.encoded() + metadata)
    }

    // MARK: The channel

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        liveness.hear(now: now)
        decoder.append(unwrapInboundIn(data))
        let (ended, error) = inbox.update { receive(into: &$0) }
        for id in ended { deadlines.removeValue(forKey: id)?.cancel() }
        if let error { close(.garbled("a frame of type \(error.kind)")) }
        updateReading()
    }

    /// - Returns: the calls that have ended, what ended the connection, and the calls that have something new.
    private func receive(
        into streams: inout ClientStreams
    ) -> (([ClientStreams.ID], FrameDecoder.Lost?), [ClientStreams.ID]) {
        var (ended, new): ([ClientStreams.ID], [ClientStreams.ID]) = ([], [])
        do throws(FrameDecoder.Lost) {
            while let event = try decoder.next() {
                let id =
                    switch event {
                    case .frame(let frame): streams.receive(frame)
                    case .oversize(let header): streams.receiveOversize(header)
                    }
                guard let id else { continue }
                new.append(id)
                if streams.hasEnded(id) { ended.append(id) }
            }
            return ((ended, nil), new)
        } catch {
            return ((ended, error), new)
        }
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
        inbox.update { ((), $0.fail(error)) }
        for deadline in deadlines.values { deadline.cancel() }
        deadlines = [:]
        channel.close(promise: nil)
    }
}
