// SPDX-License-Identifier: Apache-2.0

import CLinux
import Logging
import NIOCore

/// One connection's frames to calls. Lives on its channel's event loop, which all connections share: it takes at most
/// `framesPerTurn` frames before the others' turn, and none of its work grows with a frame's content.
final class ServerConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// Why nothing is read from the connection.
    private struct Pause: OptionSet {
        let rawValue: Int
        /// The peer does not read what it is answered.
        static let reader = Pause(rawValue: 1)
        /// It has had its turn.
        static let turn = Pause(rawValue: 2)
        /// Its next frame waits until its account's requests leave room for it.
        static let room = Pause(rawValue: 4)
    }

    private struct OpenCall {
        let call: Call
        /// It began before the server drained, which waits for it.
        let isAwaited: Bool
        /// Ends it if it still waits for a handler when its time is up.
        var limit: Scheduled<Void>?
    }

    static let framesPerTurn = 16
    /// Until the next turn, in which other connections have theirs.
    private static let turn = TimeAmount.milliseconds(1)
    /// Refused frames without an accepted one between them, after which the connection is closed.
    static let mostRefused = 64
    /// Frames up to this length are read before they are charged.
    private static let smallFrame = 64 << 10
    /// What a call takes besides its frame.
    private static let overhead = 4096

    private let server: RPCServer
    /// Who calls are charged to: who has connected, until its first call says for whom it speaks.
    private var peer: Peer
    private var hasSpoken = false
    /// There are too many connections: this one's first call is answered with this, and then it is closed.
    private let refusal: RPCError?
    private var decoder = FrameDecoder()
    private var streams: ServerStreams
    private var calls: [UInt32: OpenCall] = [:]
    private var backlog: Backlog
    private var isClosing = false
    private var pauses = Pause()
    private var refusedInRow = 0
    /// What the frame that is being read has been charged.
    private var charge: Charge?
    /// CLOCK_MONOTONIC, nanoseconds: when the frame that is being read began; `nil` between frames.
    private var frameBegan: UInt64?
    private var frameTimer: Scheduled<Void>?
    /// Closes a connection that is to be refused and asks nothing.
    private var silence: Scheduled<Void>?

    init(server: RPCServer, peer: Peer, refusal: RPCError?) {
        self.server = server
        self.peer = peer
        self.refusal = refusal
        backlog = Backlog(server.accounts, peer.account)
        streams = ServerStreams(limit: server.configuration.streamsPerConnection)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        guard refusal != nil else { return }
        let channel = context.channel
        silence = context.eventLoop.scheduleTask(
            in: .nanoseconds(server.configuration.refusedTime)
        ) { channel.close(promise: nil) }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isClosing else { return }
        decoder.append(unwrapInboundIn(data))
        if pauses.isDisjoint(with: [.turn, .room]) { takeTurn(context) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        isClosing = true
        silence?.cancel()
        frameTimer?.cancel()
        charge = nil
        for open in calls.values {
            open.call.cancel()
            open.limit?.cancel()
            if open.isAwaited { server.callEnded() }
        }
        calls = [:]
        backlog.abandon()
        context.fireChannelInactive()
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        pause(.reader, !context.channel.isWritable, context)
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { close(context) }

    private func pause(_ reason: Pause, _ isPaused: Bool, _ context: ChannelHandlerContext) {
        let before = pauses.isEmpty
        if isPaused { pauses.insert(reason) } else { pauses.remove(reason) }
        if pauses.isEmpty != before {
            _ = context.channel.setOption(.autoRead, value: pauses.isEmpty)
        }
    }

    // MARK: Frames

    private func takeTurn(_ context: ChannelHandlerContext) {
        var taken = 0
        do {
            while !isClosing, taken < Self.framesPerTurn, let event = try decoder.next() {
                taken += 1
                switch event {
                case .frame(let frame): receive(frame, context)
                case .oversize(let header): act(on: streams.receiveOversize(header), [], context)
                }
            }
        } catch {
            server.logger.debug(
                "a peer sent bytes that are no frames, closing its connection",
                metadata: ["uid": "\(peer.uid)", "pid": "\(peer.pid)", "type": "\(error.kind)"])
            return close(context)
        }
        guard !isClosing else { return }
        if taken == Self.framesPerTurn {
            pause(.turn, true, context)
            let loopBound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
            context.eventLoop.scheduleTask(in: Self.turn) {
                let (handler, context) = loopBound.value
                guard !handler.isClosing else { return }
                handler.pause(.turn, false, context)
                if !handler.pauses.contains(.room) { handler.takeTurn(context) }
            }
            return
        }
        watchFrame(began: taken > 0, context)
        reserveFrame(context)
    }

    private func receive(_ frame: Frame, _ context: ChannelHandlerContext) {
        let reserved = charge
        charge = nil
        act(on: streams.receive(frame), frame.data, charged: reserved, context)
    }

    /// A large frame is charged to its account before it is read, so that whatever has begun to come in can be finished.
    private func reserveFrame(_ context: ChannelHandlerContext) {
        guard charge == nil, let pending = decoder.pending, pending.length > Self.smallFrame else {
            return
        }
        let loop = context.eventLoop
        let loopBound = NIOLoopBound((self, context), eventLoop: loop)
        charge = server.accounts.charge(pending.length, to: peer.account) { charge in
            loop.execute {
                let (handler, context) = loopBound.value
                guard !handler.isClosing else { return }
                handler.charge = charge
                handler.frameBegan = cl_monotonic_nanoseconds()
                handler.pause(.room, false, context)
                handler.takeTurn(context)
            }
        }
        if charge == nil { pause(.room, true, context) }
    }

    /// Closes the connection when a frame stays incomplete for too long; the time it waits for room does not count.
    private func watchFrame(began: Bool, _ context: ChannelHandlerContext) {
        guard decoder.isPartial else {
            frameBegan = nil
            return
        }
        if began || frameBegan == nil { frameBegan = cl_monotonic_nanoseconds() }
        if frameTimer == nil { lookAtFrame(in: server.configuration.frameTime, context) }
    }

    private func lookAtFrame(in nanoseconds: UInt64, _ context: ChannelHandlerContext) {
        let loopBound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        frameTimer = context.eventLoop.scheduleTask(in: .nanoseconds(Int64(nanoseconds))) {
            let (handler, context) = loopBound.value
            handler.frameTimer = nil
            guard !handler.isClosing, let began = handler.frameBegan else { return }
            let limit = handler.server.configuration.frameTime
            let passed =
                handler.pauses.isEmpty ? cl_monotonic_nanoseconds() &- began : 0
            guard passed >= limit else {
                return handler.lookAtFrame(in: max(limit - passed, 1_000_000), context)
            }
            let error = RPCError(
                .deadlineExceeded,
                "a frame was still incomplete after \(limit / 1_000_000_000) s",
                reason: "FRAME_TIME"
            )
            handler.act(
                on: .refuseAndClose(stream: handler.decoder.pending?.stream ?? 0, error), [],
                context)
        }
    }

    // MARK: Calls

    private func act(
        on action: ServerStreams.Action, _ data: [UInt8], charged: Charge? = nil,
        _ context: ChannelHandlerContext
    ) {
        switch action {
        case .ignore: break
        case .refuse(let stream, let error):
            calls[stream]?.call.cancel()
            refuse(stream, error, context)
        case .cancel(let stream):
            calls[stream]?.call.cancel()
            output(stream, context).respond(
                RPCError(.cancelled, "the caller closed the stream", reason: "CANCELLED"))
        case .refuseAndClose(let stream, let error):
            calls[stream]?.call.cancel()
            refuseAndClose(stream, error, context)
        case .start(let stream, let mode, let head):
            do throws(RPCError) {
                try start(stream, mode, head, data, charged, context)
                refusedInRow = 0
            } catch {
                refuse(stream, error, context)
            }
        }
    }

    private func refuse(_ stream: UInt32, _ error: RPCError, _ context: ChannelHandlerContext) {
        // Those that ask for patience are no nonsense.
        if error.retryAfter == nil { refusedInRow += 1 }
        guard refusedInRow < Self.mostRefused else { return refuseAndClose(stream, error, context) }
        output(stream, context).respond(error)
    }

    private func refuseAndClose(
        _ stream: UInt32, _ error: RPCError, _ context: ChannelHandlerContext
    ) {
        isClosing = true
        output(stream, context).respond(error)
        let channel = context.channel
        channel.eventLoop.execute {
            channel.flush()
            channel.close(promise: nil)
        }
    }

    private func start(
        _ stream: UInt32, _ mode: ServerStreams.Mode, _ head: RequestHead, _ data: [UInt8],
        _ reserved: Charge?, _ context: ChannelHandlerContext
    ) throws(RPCError) {
        try identify(head)
        let received = cl_monotonic_nanoseconds()
        let call = Call(
            peer: peer, service: head.service, method: head.method, received: received,
            deadline: received &+ server.configuration.timeout(asked: head.timeout))
        calls[stream] = OpenCall(call: call, isAwaited: server.callBegan())
        let output = output(stream, context)
        if let refusal {
            isClosing = true
            throw refusal
        }
        if let refusal = server.configuration.refusal { throw refusal }
        let method = try server.services.find(head.service, head.method)
        if server.isDraining, !method.isQuick { throw RPCServer.draining }
        guard head.timeout >= 0 else { throw RPCServer.tooLate }
        let charge: Charge
        if let reserved {
            charge = reserved
        } else {
            charge = try server.accounts.charge(data.count + Self.overhead, to: peer.account)
        }
        calls[stream]?.limit = context.eventLoop.scheduleTask(
            in: .nanoseconds(Int64(clamping: call.deadline &- received))
        ) {
            if call.expire() { output.respond(RPCServer.tooLate) }
        }
        server.handle(
            RPCServer.Waiting(call: call, isQuick: method.isQuick, backlog: backlog) { isOpen in
                guard call.begin() else { return }
                guard isOpen else { return output.respond(RPCServer.draining) }
                guard cl_monotonic_nanoseconds() < call.deadline else {
                    return output.respond(RPCServer.tooLate)
                }
                method.handler(data[head.payload], call, mode, output)
                withExtendedLifetime(charge) {}
            })
    }

    /// A gateway's connection speaks for one user, whom its first call names: what waits on it is that user's.
    private func identify(_ head: RequestHead) throws(RPCError) {
        defer { hasSpoken = true }
        guard let user = head.onBehalfOf else {
            if peer.isOnBehalf {
                throw .invalid(
                    RequestHead.onBehalfKey,
                    "missing; the connection's first call was for user \(peer.uid), and so are all")
            }
            return
        }
        if peer.isOnBehalf, peer.uid == user { return }
        guard peer.isOnBehalf || peer.uid == server.configuration.gateway else {
            throw RPCError(
                .permissionDenied,
                "user \(peer.uid) may not speak for user \(user): only the setting gateway_user may",
                reason: "NOT_A_GATEWAY")
        }
        guard !hasSpoken else {
            throw .invalid(
                RequestHead.onBehalfKey,
                "\(user); all calls of a connection are for one user, whom its first call names")
        }
        peer = peer.speaking(for: user)
        backlog = Backlog(server.accounts, peer.account)
    }

    private func output(_ stream: UInt32, _ context: ChannelHandlerContext) -> StreamOutput {
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        let channel = context.channel
        // A stream that was never begun is only answered by its refusal.
        let wasOpen = streams.open.contains(stream)
        return StreamOutput(
            channel: channel, stream: stream, backlog: backlog,
            mayEnd: { handler.value.streams.end(stream) || !wasOpen },
            ended: { handler.value.ended(stream, $0, channel) })
    }

    private func ended(
        _ stream: UInt32, _ written: EventLoopFuture<Void>, _ channel: any Channel
    ) {
        let open = calls.removeValue(forKey: stream)
        open?.limit?.cancel()
        if open?.isAwaited != false { server.answer(isOnItsWay: written) }
        if open?.isAwaited == true { server.callEnded() }
        if refusal != nil { written.whenComplete { _ in channel.close(promise: nil) } }
    }

    private func close(_ context: ChannelHandlerContext) {
        isClosing = true
        context.close(promise: nil)
    }
}
