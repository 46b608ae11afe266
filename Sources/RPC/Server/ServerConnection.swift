// SPDX-License-Identifier: Apache-2.0

import CLinux
import Logging
import NIOCore

/// One connection's frames to calls. Lives on its channel's loop.
final class ServerConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let server: RPCServer
    private let peer: Peer
    /// There are too many connections: this one's first call is answered with this, and then it is closed.
    private let refusal: RPCError?
    private var decoder = FrameDecoder()
    private var streams: ServerStreams
    private var calls: [UInt32: OpenCall] = [:]
    private let backlog = Backlog()
    private var isClosing = false
    /// Closes a connection that is to be refused and asks nothing.
    private var silence: Scheduled<Void>?

    private struct OpenCall {
        let call: Call
        /// It began before the server drained, which waits for it.
        let isAwaited: Bool
    }

    init(server: RPCServer, peer: Peer, refusal: RPCError?) {
        self.server = server
        self.peer = peer
        self.refusal = refusal
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
        do {
            while !isClosing, let event = try decoder.next() {
                switch event {
                case .frame(let frame): act(on: streams.receive(frame), context)
                case .oversize(let header): act(on: streams.receiveOversize(header), context)
                }
            }
        } catch {
            server.logger.debug(
                "a peer sent bytes that are no frames, closing its connection",
                metadata: ["uid": "\(peer.uid)", "pid": "\(peer.pid)", "type": "\(error.kind)"])
            close(context)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        silence?.cancel()
        for open in calls.values {
            open.call.cancel()
            if open.isAwaited { server.callEnded() }
        }
        calls = [:]
        backlog.abandon()
        context.fireChannelInactive()
    }

    /// A peer that does not read what it is answered is not read from either.
    func channelWritabilityChanged(context: ChannelHandlerContext) {
        _ = context.channel.setOption(.autoRead, value: context.channel.isWritable)
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { close(context) }

    private func act(on action: ServerStreams.Action, _ context: ChannelHandlerContext) {
        switch action {
        case .ignore: break
        case .refuse(let stream, let error):
            calls[stream]?.call.cancel()
            output(stream, context).respond(error)
        case .refuseAndClose(let stream, let error):
            isClosing = true
            calls[stream]?.call.cancel()
            output(stream, context).respond(error)
            let channel = context.channel
            channel.eventLoop.execute {
                channel.flush()
                channel.close(promise: nil)
            }
        case .start(let stream, let mode, let request):
            start(stream, mode, request, context)
        }
    }

    private func start(
        _ stream: UInt32, _ mode: ServerStreams.Mode, _ request: Request,
        _ context: ChannelHandlerContext
    ) {
        let received = cl_monotonic_nanoseconds()
        let call = Call(
            peer: peer, service: request.service, method: request.method, received: received,
            deadline: received &+ server.configuration.timeout(asked: request.timeoutNano))
        calls[stream] = OpenCall(call: call, isAwaited: server.callBegan())
        let output = output(stream, context)
        do throws(RPCError) {
            if let refusal {
                isClosing = true
                throw refusal
            }
            if let refusal = server.configuration.refusal { throw refusal }
            let method = try server.services.find(request.service, request.method)
            if server.isDraining, !method.answersWhileDraining { throw RPCServer.draining }
            let waiting = RPCServer.Waiting(
                call: call, payload: request.payload.count, backlog: backlog
            ) { isOpen in
                guard isOpen else { return output.respond(RPCServer.draining) }
                guard cl_monotonic_nanoseconds() < call.deadline else {
                    return output.respond(RPCServer.tooLate)
                }
                method.handler(request.payload, call, mode, output)
            }
            try server.handle(waiting)
        } catch {
            output.respond(error)
        }
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
        if open?.isAwaited != false { server.answer(isOnItsWay: written) }
        if open?.isAwaited == true { server.callEnded() }
        if refusal != nil { written.whenComplete { _ in channel.close(promise: nil) } }
    }

    private func close(_ context: ChannelHandlerContext) {
        isClosing = true
        context.close(promise: nil)
    }
}
