// SPDX-License-Identifier: Apache-2.0

import RPC
import Synchronization

/// The one connection that a client's calls share: made when a call needs one and there is none.
final class Connections: Sendable {
    private typealias Waiter = CheckedContinuation<RPCClient, any Error>

    private enum State {
        case none
        case connecting([UInt64: Waiter])
        case open(RPCClient)
        case closed
    }

    private let state = Mutex(State.none)
    private let numbers = Atomic<UInt64>(0)
    private let connect: @Sendable () async throws -> RPCClient

    init(_ connect: @escaping @Sendable () async throws -> RPCClient) { self.connect = connect }

    private static let closed = MMFreeError(.cancelled, "the client was closed", reason: "CLOSED")

    /// The connection that is open, or a new one. Cancelling the task ends the waiting, not the connecting: others may wait too.
    func get() async throws -> RPCClient {
        if let open = present() { return open }
        let number = numbers.wrappingAdd(1, ordering: .relaxed).newValue
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { waiter in
                join(number, waiter)
                // The handler has been called already if the task was cancelled before.
                if Task.isCancelled { leave(number) }
            }
        } onCancel: {
            leave(number)
        }
    }

    private func present() -> RPCClient? {
        state.withLock {
            if case .open(let open) = $0, open.isOpen { open } else { nil }
        }
    }

    private func join(_ number: UInt64, _ waiter: Waiter) {
        let (answer, begins): (Result<RPCClient, any Error>?, Bool) = state.withLock {
            switch $0 {
            case .open(let open) where open.isOpen: return (.success(open), false)
            case .none, .open:
                $0 = .connecting([number: waiter])
                return (nil, true)
            case .connecting(var waiters):
                waiters[number] = waiter
                $0 = .connecting(waiters)
                return (nil, false)
            case .closed: return (.failure(Self.closed), false)
            }
        }
        if let answer { waiter.resume(with: answer) }
        guard begins else { return }
        Task.detached(executorPreference: LoopExecutor.any()) { [self] in
            let result: Result<RPCClient, any Error>
            do { result = .success(try await connect()) } catch { result = .failure(error) }
            finish(result)
        }
    }

    private func finish(_ result: Result<RPCClient, any Error>) {
        let waiters: [Waiter] = state.withLock {
            // Closed meanwhile: the waiters know, and the connection goes with `result`.
            guard case .connecting(let waiters) = $0 else { return [] }
            if case .success(let open) = result { $0 = .open(open) } else { $0 = .none }
            return Array(waiters.values)
        }
        for waiter in waiters { waiter.resume(with: result) }
    }

    private func leave(_ number: UInt64) {
        let waiter: Waiter? = state.withLock { state in
            guard case .connecting(var waiters) = state else { return nil }
            defer { state = .connecting(waiters) }
            return waiters.removeValue(forKey: number)
        }
        waiter?.resume(throwing: CancellationError())
    }

    /// No new call uses this connection; those it carries go on.
    func forget(_ connection: RPCClient) {
        state.withLock {
            if case .open(let open) = $0, open === connection { $0 = .none }
        }
    }

    /// Closes the connection, for good; its calls end.
    func close() async {
        let (open, waiters): (RPCClient?, [Waiter]) = state.withLock { state in
            defer { state = .closed }
            return switch state {
            case .open(let open): (open, [])
            case .connecting(let waiters): (nil, Array(waiters.values))
            case .none, .closed: (nil, [])
            }
        }
        for waiter in waiters { waiter.resume(throwing: Self.closed) }
        await open?.close()
    }
}
