// SPDX-License-Identifier: Apache-2.0

import CLinux
import DequeModule
import NIOCore
import Synchronization

/// What became of a message given to an outbox.
package enum SendResult: Sendable, Equatable {
    case accepted
    /// The message was taken, but the reader is behind and it waits: send no more until the outbox has drained.
    case full
    /// Nobody reads any more. The message was not taken.
    case closed
}

/// The bounded way back to one caller, fed by one thread. Nothing blocks.
///
/// Called as a stream, every message goes out at once, until `bufferLimit` bytes are on their way; what comes then is kept,
/// encoded, and goes out as the reader catches up. Called as unary, messages are merged and go out at `finish`.
package final class Outbox<Message: MergeableMessage>: Sendable {
    private struct State {
        /// Bytes given to the connection that the system does not have yet, or bytes collected.
        var outstanding = 0
        /// Encoded messages that the connection does not have yet.
        var waiting: Deque<[UInt8]> = []
        /// Bytes of what waits or is collected, which the account is charged.
        var kept = 0
        /// Since when the reader has taken nothing, while something waits; else 0.
        var stalledSince: UInt64 = 0
        var isEnded = false
        var collected: Message?
        var onDrain: (@Sendable () -> Void)?

        /// Keeps nothing any more.
        ///
        /// - Returns: bytes to be given back.
        mutating func releaseAll() -> Int {
            defer { kept = 0 }
            return kept
        }
    }
    private let state = Mutex(State())
    private let call: Call
    private let mode: ServerStreams.Mode
    private let output: StreamOutput
    private let clock: @Sendable () -> UInt64

    /// Bytes on their way to one reader beyond which messages wait. One message always fits, however long it is.
    package static var bufferLimit: Int { 256 << 10 }

    private static var advice: String { "ask for it as a stream" }

    init(
        call: Call, mode: ServerStreams.Mode, output: StreamOutput,
        clock: @escaping @Sendable () -> UInt64 = { cl_monotonic_nanoseconds() }
    ) {
        self.call = call
        self.mode = mode
        self.output = output
        self.clock = clock
    }

    /// Whether messages go out one by one, and not as one answer.
    package var isStreamed: Bool { mode == .streaming }

    /// Since when the reader has taken nothing of what waits for it. CLOCK_MONOTONIC, nanoseconds; 0 while nothing waits.
    package var stalledSince: UInt64 { state.withLock { $0.stalledSince } }

    /// Runs `handler`, on the connection's loop, each time a reader that was behind has caught up. To be set before the first
    /// message is sent.
    package func onDrain(_ handler: @escaping @Sendable () -> Void) {
        state.withLock { $0.onDrain = handler }
    }

    @discardableResult
    package func send(_ message: Message) -> SendResult {
        if call.isCancelled { return .closed }
        let data = message.encoded()
        if mode == .unary { return collect(message, data.count) }
        return state.withLock { state -> SendResult in
            if state.isEnded { return .closed }
            if state.waiting.isEmpty, fits(data, state) {
                state.outstanding += data.count
                write(data)
                return .accepted
            }
            if state.waiting.isEmpty { state.stalledSince = clock() }
            state.waiting.append(data)
            keep(data.count, &state)
            return .full
        }
    }

    /// Charges what is kept to the account, as bytes that are on their way are.
    private func keep(_ count: Int, _ state: inout State) {
        state.kept += count
        output.backlog.add(count)
    }

    deinit { output.backlog.remove(state.withLock { $0.kept }) }

    private func fits(_ data: [UInt8], _ state: State) -> Bool {
        state.outstanding == 0 || state.outstanding + data.count <= Self.bufferLimit
    }

    /// Hands a message to the connection's loop. Called with the lock held, and never writes at once: so messages go out in the
    /// order in which they were sent, whichever thread hands them over.
    private func write(_ data: [UInt8]) {
        output.channel.eventLoop.execute { [self] in
            output.write(.data, data: data).whenComplete { [self] _ in written(data.count) }
        }
    }

    /// Gives the connection what waits, as far as it fits, once half of the limit is free. On the connection's loop.
    private func written(_ count: Int) {
        var drained: (@Sendable () -> Void)?
        var released = 0
        defer { release(released) }
        let isOver = state.withLock { state in
            state.outstanding -= count
            guard !state.waiting.isEmpty else { return false }
            if call.isCancelled {
                state.waiting = []
                released = state.releaseAll()
            }
            state.stalledSince = clock()
            guard state.outstanding <= Self.bufferLimit / 2 else { return false }
            while let next = state.waiting.first, fits(next, state) {
                state.outstanding += next.count
                write(next)
                state.waiting.removeFirst()
                state.kept -= next.count
                released += next.count
            }
            guard state.waiting.isEmpty else { return false }
            state.stalledSince = 0
            drained = state.onDrain
            if state.isEnded { state.onDrain = nil }
            return state.isEnded
        }
        if isOver { endStream() }
        drained?()
    }

    private func collect(_ message: Message, _ size: Int) -> SendResult {
        let isTooLarge = state.withLock { state in
            guard !state.isEnded else { return nil as Bool? }
            state.outstanding += size
            guard state.outstanding <= FrameHeader.dataLimit else { return true }
            keep(size, &state)
            if state.collected == nil { state.collected = Message() }
            state.collected?.merge(message)
            return false
        }
        guard let isTooLarge else { return .closed }
        guard isTooLarge else { return .accepted }
        fail(StreamOutput.tooLarge("more than \(FrameHeader.dataLimit)", Self.advice))
        return .closed
    }

    /// Ends the answer; what waits goes out before. Later calls do nothing.
    package func finish() {
        var released = 0
        let (first, isDrained, collected) = state.withLock { state in
            defer {
                state.isEnded = true
                if mode == .unary { released = state.releaseAll() }
            }
            let isDrained = state.waiting.isEmpty
            if isDrained { state.onDrain = nil }
            return (!state.isEnded, isDrained, state.collected ?? Message())
        }
        guard first else { return }
        switch mode {
        case .streaming: if isDrained { endStream() }
        case .unary: output.respond(collected.encoded(), ifTooLarge: Self.advice)
        }
        release(released)
    }

    /// Gives back what was charged, without the lock: others' calls may begin on this thread.
    private func release(_ count: Int) { if count > 0 { output.backlog.remove(count) } }

    private func endStream() { output.end(.data, flags: [.remoteClosed, .noData], data: []) }

    /// Ends the answer with an error, which takes the place of what waits. Does nothing once all of an answer is on its way.
    package func fail(_ error: RPCError) {
        var released = 0
        defer { release(released) }
        let isFirst = state.withLock { state in
            defer {
                state.isEnded = true
                state.waiting = []
                state.collected = nil
                released = state.releaseAll()
                state.stalledSince = 0
                state.onDrain = nil
            }
            return !state.isEnded || !state.waiting.isEmpty
        }
        if isFirst { output.respond(error) }
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
        promptLogprobs += next.promptLogprobs
        finished = next.finished ?? finished
    }
}

extension EmbedResponse: MergeableMessage {
    package mutating func merge(_ next: EmbedResponse) {
        (requestID, model, modelDigest) = (next.requestID, next.model, next.modelDigest)
        embeddings += next.embeddings
    }
}

extension ScoreResponse: MergeableMessage {
    package mutating func merge(_ next: ScoreResponse) {
        (requestID, model, modelDigest) = (next.requestID, next.model, next.modelDigest)
        if scores.isEmpty { first = next.first }
        scores += next.scores
        usage = next.usage ?? usage
    }
}

extension SaveSessionResponse: MergeableMessage {
    package mutating func merge(_ next: SaveSessionResponse) {
        state += next.state
        session = session ?? next.session
        stateBytes = max(stateBytes, next.stateBytes)
    }
}
