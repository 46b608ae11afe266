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
        client.onLoop { $0.start(id, request, isStreaming: isStreaming, timeout: timeout) }
    }

    deinit { client.onLoop { [id] in $0.drop(id) } }

    /// Waits for what comes next. Cancelling the task ends the call with `.cancelled`.
    func next() async -> ClientStreams.Taken {
        await withTaskCancellationHandler {
            await withCheckedContinuation { consumer in
                client.onLoop { [id] in $0.next(id, consumer) }
            }
        } onCancel: {
            client.onLoop { [id] in $0.cancel(id) }
        }
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
