// SPDX-License-Identifier: Apache-2.0

import NIOCore
import Synchronization

/// What became of a message given to a sink.
package enum SendResult: Sendable, Equatable {
    case accepted
    /// The reader is behind: wait for `onReady`. The message was not taken.
    case full
    /// Nobody reads any more. The message was not taken.
    case closed
}

/// The bounded way back to one caller. Any thread may use it; nothing blocks.
///
/// Called as a stream, every message goes out at once. Called as unary, messages are merged and go out at `finish`.
package final class ReplySink<Message: MergeableMessage>: Sendable {
    private struct State {
        /// Bytes that wait to be written, or that are collected.
        var outstanding = 0
        var isEnded = false
        var collected: Message?
        /// A message was refused since the reader was last told of.
        var isAwaited = false
        var onReady: (@Sendable () -> Void)?
    }
    private let state = Mutex(State())
    private let call: Call
    private let mode: ServerStreams.Mode
    private let output: StreamOutput

    /// Bytes that may wait in the server for one reader.
    package static var bufferLimit: Int { 256 << 10 }

    private static var advice: String { "ask for it as a stream" }

    init(call: Call, mode: ServerStreams.Mode, output: StreamOutput) {
        self.call = call
        self.mode = mode
        self.output = output
    }

    /// Whether messages go out one by one, and not as one answer.
    package var isStreamed: Bool { mode == .streaming }

    package func send(_ message: Message) -> SendResult {
        if call.isCancelled { return .closed }
        let data = message.encoded()
        if mode == .unary { return collect(message, data.count) }
        let result = state.withLock { state -> SendResult in
            if state.isEnded { return .closed }
            // One message always fits, however long it is.
            if state.outstanding > 0, state.outstanding + data.count > Self.bufferLimit {
                state.isAwaited = true
                return .full
            }
            state.outstanding += data.count
            return .accepted
        }
        guard result == .accepted else { return result }
        output.write(.data, data: data).whenComplete { [self] _ in written(data.count) }
        return .accepted
    }

    private func collect(_ message: Message, _ size: Int) -> SendResult {
        let isTooLarge = state.withLock { state in
            guard !state.isEnded else { return nil as Bool? }
            state.outstanding += size
            guard state.outstanding <= FrameHeader.dataLimit else { return true }
            if state.collected == nil { state.collected = Message() }
            state.collected?.merge(message)
            return false
        }
        guard let isTooLarge else { return .closed }
        guard isTooLarge else { return .accepted }
        fail(StreamOutput.tooLarge("more than \(FrameHeader.dataLimit)", Self.advice))
        return .closed
    }

    /// Runs `handler` each time a reader that was behind has caught up.
    package func onReady(_ handler: @escaping @Sendable () -> Void) {
        state.withLock { $0.onReady = handler }
    }

    private func written(_ count: Int) {
        let handler = state.withLock { state in
            state.outstanding -= count
            guard state.isAwaited, state.outstanding <= Self.bufferLimit / 2 else {
                return nil as (@Sendable () -> Void)?
            }
            state.isAwaited = false
            return state.onReady
        }
        handler?()
    }

    /// Ends the answer. Later calls do nothing.
    package func finish() {
        guard let collected = end() else { return }
        switch mode {
        case .streaming: output.end(.data, flags: [.remoteClosed, .noData], data: [])
        case .unary: output.respond(collected.encoded(), ifTooLarge: Self.advice)
        }
    }

    /// Ends the answer with an error. Later calls do nothing.
    package func fail(_ error: RPCError) {
        guard end() != nil else { return }
        output.respond(error)
    }

    /// What was collected, the first time only.
    private func end() -> Message? {
        state.withLock { state in
            guard !state.isEnded else { return nil }
            state.isEnded = true
            state.onReady = nil
            return state.collected ?? Message()
        }
    }
}

/// A message of which several make one.
package protocol MergeableMessage: WireMessage {
    mutating func merge(_ next: Self)
}

extension GenerateResponse: MergeableMessage {
    package mutating func merge(_ next: GenerateResponse) {
        started = next.started ?? started
        text += next.text
        tokens += next.tokens
        logprobs += next.logprobs
        finished = next.finished ?? finished
    }
}

extension EmbedResponse: MergeableMessage {
    package mutating func merge(_ next: EmbedResponse) {
        (requestID, model, modelDigest) = (next.requestID, next.model, next.modelDigest)
        embeddings += next.embeddings
    }
}

/// One stream's way out of the server, from any thread.
struct StreamOutput: Sendable {
    let channel: any Channel
    let stream: UInt32
    let backlog: Backlog
    /// Whether the last frame may be written: it has not been yet. Asked on the channel's loop.
    let mayEnd: @Sendable () -> Bool
    /// Told on the channel's loop that the stream has ended, with its last frame on the way.
    let ended: @Sendable (EventLoopFuture<Void>) -> Void

    /// - Returns: when the system has the bytes, or never will.
    @discardableResult
    func write(
        _ kind: FrameHeader.Kind, flags: FrameHeader.Flags = [], data: [UInt8]
    ) -> EventLoopFuture<Void> {
        let frame = Frame(stream: stream, kind: kind, flags: flags, data: data)
        var buffer = channel.allocator.buffer(capacity: FrameHeader.size + data.count)
        frame.write(to: &buffer)
        let count = buffer.readableBytes
        backlog.add(count)
        let written = channel.writeAndFlush(buffer)
        written.whenComplete { [backlog] _ in backlog.remove(count) }
        return written
    }

    /// Writes the last frame, unless there has been one.
    func end(_ kind: FrameHeader.Kind, flags: FrameHeader.Flags = [], data: [UInt8]) {
        // It counts from now on, not only when the loop comes to it.
        backlog.add(data.count)
        channel.eventLoop.execute { [self] in
            if mayEnd() { ended(write(kind, flags: flags, data: data)) }
            backlog.remove(data.count)
        }
    }

    /// - Parameter advice: what to do.
    static func tooLarge(_ bytes: String, _ advice: String) -> RPCError {
        RPCError(
            .resourceExhausted,
            "the answer takes \(bytes) bytes, a frame holds \(FrameHeader.dataLimit): \(advice)",
            reason: "ANSWER_TOO_LARGE")
    }

    /// Ends a unary answer.
    func respond(_ payload: [UInt8], ifTooLarge advice: String) {
        var response = Response()
        response.status = Status()
        response.payload = payload
        let data = response.encoded()
        guard data.count <= FrameHeader.dataLimit else {
            return respond(Self.tooLarge("\(data.count)", advice))
        }
        end(.response, data: data)
    }

    func respond(_ error: RPCError) {
        var response = Response()
        response.status = error.status
        end(.response, data: response.encoded())
    }
}
