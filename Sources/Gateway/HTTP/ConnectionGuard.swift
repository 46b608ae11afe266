// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import NIOCore
import NIOHTTP1

/// How long, and how large, one connection's requests may be.
package struct ConnectionLimits: Sendable, Equatable {
    /// From the end of a request's head to the end of its body.
    package var bodyTime = Duration.seconds(30)
    /// Between requests, and for a request's head.
    package var idleTime = Duration.seconds(60)
    /// How long an answer waits for a reader that takes nothing of it.
    package var stallTime = Duration.seconds(30)
    /// After an answer that ends the connection: what still comes is read and dropped, so that the answer is not lost to a reset.
    package var lingerTime = Duration.seconds(2)
    /// Bytes of one header field, and of all of a request.
    package var headerBytes = 16 << 10
    package var headersBytes = 32 << 10
    package var headerCount = 100

    package init() {}
}

/// Ends requests and answers that take too long, and connections whose bytes are not HTTP. It stands between the HTTP/1 coder and
/// everything else: what it answers itself, its peer gets instead of a handler's answer.
final class ConnectionGuard: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias InboundOut = HTTPServerRequestPart
    typealias OutboundIn = HTTPServerResponsePart
    typealias OutboundOut = HTTPServerResponsePart

    /// A request that has no complete answer.
    private struct Open {
        let version: HTTPVersion
        var isLast: Bool
        /// All of its body is here.
        var isComplete = false
    }

    private let limits: ConnectionLimits
    private var open: [Open] = []
    /// The head of the first open request's answer is written.
    private var isAnswering = false
    /// Nothing is handed on any more.
    private var isLingering = false
    /// What follows the open requests cannot be read: said after their answers.
    private var failure: APIError?
    private var bodyTimer, stallTimer: Scheduled<Void>?

    init(_ limits: ConnectionLimits) { self.limits = limits }

    // MARK: Requests

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard !isLingering, failure == nil else { return }
        let part = unwrapInboundIn(data)
        switch part {
        case .head(let head):
            if let error = Self.fault(head) { return fail(context, error) }
            open.append(Open(version: head.version, isLast: !head.isKeepAlive))
            bodyTimer = schedule(context, limits.bodyTime) { guardian, context in
                guardian.fail(
                    context,
                    APIError(
                        408, "timeout",
                        "the request's body was not complete after \(guardian.limits.bodyTime)"))
            }
        case .body: break
        case .end:
            bodyTimer?.cancel()
            if !open.isEmpty { open[open.count - 1].isComplete = true }
        }
        context.fireChannelRead(data)
    }

    /// What makes a request's target ambiguous.
    private static func fault(_ head: HTTPRequestHead) -> APIError? {
        let hosts = head.headers[canonicalForm: "host"].count
        if hosts > 1 || (hosts == 0 && head.version != .http1_0) {
            return APIError(400, "bad_request", "a request has one Host header, this has \(hosts)")
        }
        return nil
    }

    /// The gateway stops: the connection ends with the requests that have begun, and when what was answered has been taken. Not
    /// handed on: the handlers behind this one know no more than that the last answer has been written to the channel.
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard event is ChannelShouldQuiesceEvent else {
            return context.fireUserInboundEventTriggered(event)
        }
        guard !isLingering else { return }
        if !open.isEmpty {
            open[open.count - 1].isLast = true
        } else if let waiting = try? context.channel.syncOptions?.getOption(.bufferedWritableBytes),
            waiting > 0
        {
            endOutput(context)
        } else {
            context.close(promise: nil)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard let error = error as? HTTPParserError else {
            return context.close(promise: nil)
        }
        let isTooLarge = error == .headerOverflow
        fail(
            context,
            isTooLarge
                ? APIError(431, "headers_too_large", "the request's headers are too large")
                : APIError(400, "bad_request", "the request is not HTTP/1.1: \(error)"))
    }

    /// Answers with an error and ends the connection; after the answers to earlier requests that are complete.
    private func fail(_ context: ChannelHandlerContext, _ error: APIError) {
        guard !isLingering, failure == nil else { return }
        bodyTimer?.cancel()
        if let last = open.last, last.isComplete {
            failure = error
        } else if open.count > 1 {
            open.removeLast()
            failure = error
        } else if isAnswering {
            context.close(promise: nil)
        } else {
            answer(context, error)
        }
    }

    private func answer(_ context: ChannelHandlerContext, _ error: APIError) {
        let body = error.body(.openAI)
        var headers = HTTPHeaders(error.headers.map { ($0.name.rawName, $0.value) })
        headers.replaceOrAdd(name: "content-type", value: "application/json")
        headers.replaceOrAdd(name: "content-length", value: "\(body.count)")
        headers.replaceOrAdd(name: "connection", value: "close")
        let head = HTTPResponseHead(
            version: .http1_1, status: .init(statusCode: error.status), headers: headers)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(bytes: body)))), promise: nil)
        linger(context)
    }

    // MARK: Answers

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard !isLingering else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        guard let request = open.first else { return context.write(data, promise: promise) }
        switch unwrapOutboundIn(data) {
        case .head(var head) where head.status.code >= 200:
            isAnswering = true
            if request.isLast || !request.isComplete {
                // A body that was not read to its end is not read at all.
                if !request.isComplete { open[0] = Open(version: request.version, isLast: true) }
                head.headers.replaceOrAdd(name: "connection", value: "close")
            }
            // Without chunks, which HTTP/1.0 does not know, the end of the connection ends an answer.
            if request.version == .http1_0 { head.version = .http1_0 }
            context.write(wrapOutboundOut(.head(head)), promise: promise)
        case .end:
            isAnswering = false
            open.removeFirst()
            if request.isLast {
                linger(context, promise)
            } else {
                context.writeAndFlush(data, promise: promise)
                if open.isEmpty, let failure { answer(context, failure) }
            }
        default: context.write(data, promise: promise)
        }
    }

    /// Ends the answer and this side of the connection, and drops what still comes.
    private func linger(_ context: ChannelHandlerContext, _ promise: EventLoopPromise<Void>? = nil)
    {
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: promise)
        endOutput(context)
    }

    /// Ends this side of the connection when the peer has taken what was written, and all of it a while later; at once if it takes
    /// too long. What is left by then is less than a channel holds before an answer waits: 64 KiB.
    private func endOutput(_ context: ChannelHandlerContext) {
        isLingering = true
        bodyTimer?.cancel()
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenComplete { [self] _ in
            _ = schedule(context, limits.lingerTime) { $1.close(promise: nil) }
        }
        context.close(mode: .output, promise: written)
        let unread = schedule(context, limits.stallTime) { $1.close(promise: nil) }
        written.futureResult.whenComplete { _ in unread.cancel() }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        stallTimer?.cancel()
        stallTimer =
            context.channel.isWritable
            ? nil : schedule(context, limits.stallTime) { $1.close(promise: nil) }
        context.fireChannelWritabilityChanged()
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        bodyTimer?.cancel()
        stallTimer?.cancel()
    }

    private func schedule(
        _ context: ChannelHandlerContext, _ time: Duration,
        _ body: @escaping (ConnectionGuard, ChannelHandlerContext) -> Void
    ) -> Scheduled<Void> {
        context.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(time)) { [weak self] in
            guard let self, context.channel.isActive else { return }
            body(self, context)
        }
    }
}
