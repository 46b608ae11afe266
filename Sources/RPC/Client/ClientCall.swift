// SPDX-License-Identifier: Apache-2.0

/// One call under way. Whoever drops it cancels the call, and no other.
final class ClientCall: Sendable {
    /// Kept open as long as this call is wanted.
    private let client: RPCClient
    private let id: ClientStreams.ID

    init(
        _ client: RPCClient, _ id: ClientStreams.ID, _ request: Request, isStreaming: Bool,
        timeout: UInt64?
    ) {
        self.client = client
        self.id = id
        client.inbox.update { ($0.begin(id, isStreaming: isStreaming), []) }
        client.onLoop { $0.start(id, request, isStreaming: isStreaming, timeout: timeout) }
    }

    deinit {
        end { streams, id in
            defer { streams.drop(id) }
            return streams.cancel(id)
        }
    }

    /// Waits for what comes next. Cancelling the task ends the call with `.cancelled`.
    func next() async -> ClientStreams.Taken {
        await withTaskCancellationHandler {
            await withCheckedContinuation { consumer in
                if client.inbox.next(id, consumer) { client.onLoop { $0.updateReading() } }
            }
        } onCancel: {
            end { $0.cancel($1) }
        }
    }

    /// - Parameter change: ends the call; returns the stream that the daemon still works on.
    private func end(_ change: (inout ClientStreams, ClientStreams.ID) -> UInt32?) {
        let stream = client.inbox.update { (change(&$0, id), [id]) }
        client.onLoop { [id] in $0.end(id, stream) }
    }
}

/// The messages of an answer that comes in parts, for one consumer.
///
/// At most 256 KiB of them, and the message that goes beyond, wait for the consumer; then the daemon waits. Leaving the loop early, or
/// cancelling its task, cancels the call; in the task that was cancelled the loop ends with `ClientError.cancelled`.
package struct AnswerStream<Answer: WireMessage>: AsyncSequence, Sendable {
    package typealias Failure = ClientError
    let call: ClientCall

    package func makeAsyncIterator() -> AsyncIterator { AsyncIterator(call: call) }

    package struct AsyncIterator: AsyncIteratorProtocol {
        private var call: ClientCall?
        private var messages: ArraySlice<[UInt8]> = []

        fileprivate init(call: ClientCall) { self.call = call }

        package mutating func next(
            isolation: isolated (any Actor)? = #isolation
        ) async throws(ClientError) -> Answer? {
            guard let call else { return nil }
            if messages.isEmpty {
                switch await call.next() {
                case .messages(let more): messages = more[...]
                case .end(let end):
                    self.call = nil
                    _ = try end.get()
                    return nil
                }
            }
            do throws(WireError) { return try Answer(decoding: messages.removeFirst()) } catch {
                self.call = nil
                throw .garbled("\(error)")
            }
        }
    }
}
