// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The bounded way from the engine's thread to one call's consumer.
final class LocalCall<Event: Sendable>: Sendable {
    private typealias Consumer = CheckedContinuation<Event?, any Error>

    private struct State {
        var events: [Event] = []
        var end: Result<Void, any Error>?
        var consumer: Consumer?
        var isCancelled = false
    }

    /// Events that wait for the consumer before the engine pauses the call.
    private static var limit: Int { 64 }

    private let state = Mutex(State())
    /// Told when there is room again, or nobody wants the rest.
    private let wake: @Sendable () -> Void

    init(wake: @escaping @Sendable () -> Void) { self.wake = wake }

    // MARK: The engine's side

    var hasRoom: Bool { state.withLock { $0.events.count < Self.limit } }
    var isCancelled: Bool { state.withLock { $0.isCancelled } }

    func send(_ event: Event) {
        let consumer: Consumer? = state.withLock {
            guard !$0.isCancelled else { return nil }
            if let consumer = $0.consumer {
                $0.consumer = nil
                return consumer
            }
            $0.events.append(event)
            return nil
        }
        consumer?.resume(returning: event)
    }

    func finish(_ end: Result<Void, any Error> = .success(())) {
        let consumer: Consumer? = state.withLock { state in
            if state.end == nil { state.end = end }
            defer { state.consumer = nil }
            return state.consumer
        }
        consumer?.resume(with: end.map { nil })
    }

    // MARK: The consumer's side

    /// The next event, or `nil` after the last. Cancelling the task ends the call.
    func next() async throws -> Event? {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { consumer in
                let (answer, wasFull): (Result<Event?, any Error>?, Bool) = state.withLock {
                    if $0.isCancelled { return (.failure(CancellationError()), false) }
                    if !$0.events.isEmpty {
                        let wasFull = $0.events.count == Self.limit
                        return (.success($0.events.removeFirst()), wasFull)
                    }
                    if let end = $0.end { return (end.map { nil }, false) }
                    $0.consumer = consumer
                    return (nil, false)
                }
                if let answer { consumer.resume(with: answer) }
                if wasFull { wake() }
            }
        } onCancel: {
            cancel()
        }
    }

    /// Nobody wants the rest.
    func cancel() {
        let consumer: Consumer? = state.withLock { state in
            state.isCancelled = true
            state.events = []
            defer { state.consumer = nil }
            return state.consumer
        }
        consumer?.resume(throwing: CancellationError())
        wake()
    }
}
