// SPDX-License-Identifier: Apache-2.0

import RPC

/// An answer as it is written. Each time it is gone through, a request is made.
///
/// There is demand: whoever does not ask for the next part makes the model wait. A daemon's answer waits in at most 256 KiB of
/// this process' memory, then in the daemon, then it is not computed further; a ``SharedModel`` goes 64 parts ahead. Leaving the
/// loop, or cancelling its task, ends the request.
public struct Generation: AsyncSequence, Sendable {
    public typealias Element = GenerateEvent
    let begin: @Sendable () -> any GenerationSource

    public func makeAsyncIterator() -> Iterator { Iterator(source: begin()) }

    public struct Iterator: AsyncIteratorProtocol {
        var source: (any GenerationSource)?

        /// The next part, or `nil` after the last.
        public mutating func next(
            isolation: isolated (any Actor)? = #isolation
        ) async throws -> GenerateEvent? {
            guard let source else { return nil }
            do {
                let event = try await source.next(isolation: isolation)
                if event == nil { self.source = nil }
                return event
            } catch {
                self.source = nil
                throw error
            }
        }
    }

    /// The whole answer.
    public func collect(
        isolation: isolated (any Actor)? = #isolation
    ) async throws -> Completion {
        var completion = Completion()
        for try await event in self { completion.append(event) }
        return completion
    }
}

/// One request's parts. Dropping it ends the request.
protocol GenerationSource: AnyObject {
    func next(isolation: isolated (any Actor)?) async throws -> GenerateEvent?
}

/// A request to the daemon.
final class RemoteGeneration: GenerationSource {
    private let client: Client
    private let request: Result<GenerateRequest, MMFreeError>
    private let timeout: Duration?
    private var answer: AnswerStream<GenerateResponse>.AsyncIterator?
    private var isComplete = false

    init(_ client: Client, _ request: Result<GenerateRequest, MMFreeError>, _ timeout: Duration?) {
        self.client = client
        self.request = request
        self.timeout = timeout
    }

    func next(isolation: isolated (any Actor)?) async throws -> GenerateEvent? {
        if answer == nil { return try await first(isolation: isolation) }
        do { return try await take(isolation: isolation) } catch {
            var attempts = Attempts(client, isIdempotent: false)
            try await attempts.wait(after: error)
            return nil
        }
    }

    /// Makes the request, again if the policy wants it.
    private func first(isolation: isolated (any Actor)?) async throws -> GenerateEvent? {
        let request = try request.get()
        var attempts = Attempts(client, isIdempotent: request.session.isEmpty)
        while true {
            do {
                let connection = try await attempts.next()
                answer =
                    connection.stream(
                        ServiceName.inference, "Generate", request,
                        timeout: client.nanoseconds(timeout)
                    ).makeAsyncIterator()
                return try await take(isolation: isolation)
            } catch {
                answer = nil
                try await attempts.wait(after: error)
            }
        }
    }

    private func take(isolation: isolated (any Actor)?) async throws -> GenerateEvent? {
        guard let part = try await answer?.next(isolation: isolation) else {
            if isComplete { return nil }
            throw ClientError.garbled("it ends before it is finished")
        }
        isComplete = part.finished != nil
        return GenerateEvent(part)
    }
}
