// SPDX-License-Identifier: Apache-2.0

package import CLinux
import Synchronization

/// Who is at the other end of a connection, as the kernel says; or for whom a gateway speaks.
package struct Peer: Sendable, Equatable {
    package let uid: UInt32
    package let gid: UInt32
    package let pid: Int32
    /// Whether the gateway says so and not the kernel: then it may no more than any user, whoever it is.
    package let isOnBehalf: Bool

    package init(uid: UInt32, gid: UInt32, pid: Int32, isOnBehalf: Bool = false) {
        self.uid = uid
        self.gid = gid
        self.pid = pid
        self.isOnBehalf = isOnBehalf
    }

    /// The user for whom this one, a gateway, speaks. Its groups are not known: they decide nothing.
    func speaking(for user: UInt32) -> Peer {
        Peer(uid: user, gid: .max, pid: pid, isOnBehalf: true)
    }

    /// Root itself.
    package var isRoot: Bool { uid == 0 && !isOnBehalf }

    package init(_ credentials: cl_credentials) {
        self.init(uid: credentials.uid, gid: credentials.gid, pid: credentials.pid)
    }
}

/// One call as its handler sees it.
package final class Call: Sendable {
    package let peer: Peer
    package let service: String
    package let method: String
    /// CLOCK_MONOTONIC, nanoseconds: when the request came in, and when its time is up.
    package let received: UInt64
    package let deadline: UInt64

    private struct State {
        var isCancelled = false
        var hasBegun = false
        var handlers: [@Sendable () -> Void] = []
        var lateHandlers: [@Sendable () -> Void] = []
    }
    private let state = Mutex(State())

    package init(peer: Peer, service: String, method: String, received: UInt64, deadline: UInt64) {
        self.peer = peer
        self.service = service
        self.method = method
        self.received = received
        self.deadline = deadline
    }

    /// The caller has gone away.
    package var isCancelled: Bool { state.withLock { $0.isCancelled } }

    /// Runs `handler` once when the caller goes away, at once if it has.
    package func onCancel(_ handler: @escaping @Sendable () -> Void) {
        let now = state.withLock { state in
            if !state.isCancelled { state.handlers.append(handler) }
            return state.isCancelled
        }
        if now { handler() }
    }

    /// Runs `handler` once, on the connection's loop, when the call's time is up and it has no end yet.
    package func onDeadline(_ handler: @escaping @Sendable () -> Void) {
        state.withLock { if !$0.isCancelled { $0.lateHandlers.append(handler) } }
    }

    /// A handler takes it; false if nobody waits for its answer any more.
    func begin() -> Bool {
        state.withLock { state in
            state.hasBegun = true
            return !state.isCancelled
        }
    }

    /// Its time is up; false if a handler has it, or if it has been cancelled.
    func expire() -> Bool {
        let (isOver, handlers) = state.withLock { state in
            defer { state.lateHandlers = [] }
            return (!state.hasBegun && !state.isCancelled, state.lateHandlers)
        }
        if isOver { cancel() }
        for handler in handlers { handler() }
        return isOver
    }

    package func cancel() {
        let handlers = state.withLock { state in
            state.isCancelled = true
            defer { (state.handlers, state.lateHandlers) = ([], []) }
            return state.handlers
        }
        for handler in handlers { handler() }
    }
}
