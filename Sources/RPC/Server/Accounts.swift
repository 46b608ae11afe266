// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The bytes that accounts hold in the server: requests, from the header of their frame to the end of their handler, and
/// answers that the system has not taken yet; and what accounts hold for longer: sessions and the bytes of their states. Any
/// thread may use it.
package final class Accounts: Sendable {
    package struct Limits: Sendable {
        package var requestBytes = 128 << 20
        package var requestBytesPerAccount = 32 << 20
        package var answerBytes = 64 << 20
        package var answerBytesPerAccount = 16 << 20
        package var sessions = 4096
        package var sessionsPerAccount = 1024
        package var stateBytes = 1 << 30
        package var stateBytesPerAccount = 512 << 20

        package init() {}
    }

    private struct Waiter {
        let account: Account
        let amount: Int
        let body: @Sendable (Charge) -> Void
    }

    private struct State {
        var requests: Quota
        var answers: Quota
        var sessions: Quota
        var states: Quota
        /// Frames that wait for room, first come first: at most one for each connection.
        var waiting: [Waiter] = []
        /// Calls that begin when their account's answers have been read.
        var held: [Account: [@Sendable () -> Void]] = [:]
        /// The most bytes that were held since `onRelief` was last called.
        var peak = 0
        var onRelief: @Sendable () -> Void

        /// Takes bytes for a session's state.
        ///
        /// - Returns: why not.
        mutating func takeState(_ bytes: Int, for account: Account) -> String? {
            states.take(bytes, for: account)
                ? nil
                : "the sessions of user \(account.uid) take \(states.holds(account)) bytes, those of all users \(states.used); \(bytes) more exceed the user's share of \(states.share(of: account)): drop some"
        }

        /// Gives bytes back.
        ///
        /// - Returns: whether most of a flood is over: three quarters of 16 MiB or more have been given back.
        mutating func give(
            _ quota: WritableKeyPath<State, Quota>, _ amount: Int, back account: Account
        ) -> Bool {
            peak = max(peak, requests.used + answers.used)
            self[keyPath: quota].give(amount, back: account)
            let used = requests.used + answers.used
            guard peak >= Accounts.flood, used <= peak / 4 else { return false }
            peak = used
            return true
        }
    }
    private let state: Mutex<State>
    private static let flood = 16 << 20

    /// - Parameter onRelief: called when most of 16 MiB or more have been given back. On any thread: be quick.
    package init(_ limits: Limits = .init(), onRelief: @escaping @Sendable () -> Void = {}) {
        state = Mutex(
            State(
                requests: Quota(
                    total: limits.requestBytes, perAccount: limits.requestBytesPerAccount),
                answers: Quota(
                    total: limits.answerBytes, perAccount: limits.answerBytesPerAccount),
                sessions: Quota(total: limits.sessions, perAccount: limits.sessionsPerAccount),
                states: Quota(total: limits.stateBytes, perAccount: limits.stateBytesPerAccount),
                onRelief: onRelief))
    }

    /// Calls `handler` as the initialiser says, instead of what was called before.
    func onRelief(_ handler: @escaping @Sendable () -> Void) {
        state.withLock { $0.onRelief = handler }
    }

    package var requestBytes: Int { state.withLock { $0.requests.used } }
    package var answerBytes: Int { state.withLock { $0.answers.used } }

    // MARK: Requests

    /// Charges a request's bytes, or says why not.
    package func charge(_ amount: Int, to account: Account) throws(RPCError) -> Charge {
        let (isTaken, own, all, share) = state.withLock { state in
            (
                state.requests.take(amount, for: account), state.requests.holds(account),
                state.requests.used, state.requests.share(of: account)
            )
        }
        guard isTaken else {
            let message =
                "\(own) bytes of requests of user \(account.uid) wait to be handled, \(all) of all users; \(amount) more exceed the user's share of \(share)"
            var error = RPCError(.resourceExhausted, message, reason: "TOO_MANY_CALLS")
                .retrying(after: 100_000_000)
            error.quota = .init(field: "uid:\(account.uid)", description: message)
            throw error
        }
        return Charge(self, account, amount)
    }

    /// Charges a request's bytes, or calls `body` with the charge on the thread that makes room for it.
    package func charge(
        _ amount: Int, to account: Account, whenFree body: @escaping @Sendable (Charge) -> Void
    ) -> Charge? {
        let isTaken = state.withLock { state in
            if state.requests.take(amount, for: account) { return true }
            state.waiting.append(Waiter(account: account, amount: amount, body: body))
            return false
        }
        return isTaken ? Charge(self, account, amount) : nil
    }

    fileprivate func refund(_ amount: Int, _ account: Account) {
        let (served, isRelieved) = state.withLock { state in
            let isRelieved = state.give(\.requests, amount, back: account)
            var served: [Waiter] = []
            state.waiting.removeAll { waiter in
                guard state.requests.take(waiter.amount, for: waiter.account) else { return false }
                served.append(waiter)
                return true
            }
            return (served, isRelieved)
        }
        if isRelieved { state.withLock { $0.onRelief }() }
        for waiter in served { waiter.body(Charge(self, waiter.account, waiter.amount)) }
    }

    // MARK: Sessions

    package var sessions: Int { state.withLock { $0.sessions.used } }
    package var stateBytes: Int { state.withLock { $0.states.used } }

    /// Charges a session and the bytes of its state, or says why not.
    package func chargeSession(_ bytes: Int, to account: Account) throws(RPCError) -> SessionCharge
    {
        let refusal: String? = state.withLock { state in
            guard state.sessions.fits(1, for: account) else {
                return
                    "user \(account.uid) has \(state.sessions.holds(account)) sessions, all users together \(state.sessions.used); the user's share is \(state.sessions.share(of: account)): drop some"
            }
            if let refusal = state.takeState(bytes, for: account) { return refusal }
            state.sessions.add(1, to: account)
            return nil
        }
        if let refusal { throw Self.quotaError(refusal, account) }
        return SessionCharge(self, account, bytes)
    }

    private static func quotaError(_ refusal: String, _ account: Account) -> RPCError {
        var error = RPCError(.resourceExhausted, refusal, reason: "USER_QUOTA")
        error.quota = .init(field: "uid:\(account.uid)", description: refusal)
        return error
    }

    fileprivate func reserveState(_ bytes: Int, _ account: Account) throws(RPCError) {
        if let refusal = state.withLock({ $0.takeState(bytes, for: account) }) {
            throw Self.quotaError(refusal, account)
        }
    }

    fileprivate func changeState(by bytes: Int, _ account: Account) {
        state.withLock { state in
            if bytes >= 0 {
                state.states.add(bytes, to: account)
            } else {
                state.states.give(-bytes, back: account)
            }
        }
    }

    /// As `chargeSession`, for a session that is there already, whatever the limits are now.
    package func restoreSession(_ bytes: Int, of account: Account) -> SessionCharge {
        state.withLock { state in
            state.sessions.add(1, to: account)
            state.states.add(bytes, to: account)
        }
        return SessionCharge(self, account, bytes)
    }

    fileprivate func refundSession(_ bytes: Int, _ account: Account) {
        state.withLock { state in
            state.sessions.give(1, back: account)
            state.states.give(bytes, back: account)
        }
    }

    // MARK: Answers

    /// Counts bytes of an answer that the system does not have yet.
    func addAnswer(_ amount: Int, _ account: Account) {
        state.withLock { $0.answers.add(amount, to: account) }
    }

    func removeAnswer(_ amount: Int, _ account: Account) {
        let (released, isRelieved) = state.withLock { state in
            let isRelieved = state.give(\.answers, amount, back: account)
            guard state.answers.fits(0, for: account) else {
                return ([@Sendable () -> Void](), isRelieved)
            }
            return (state.held.removeValue(forKey: account) ?? [], isRelieved)
        }
        if isRelieved { state.withLock { $0.onRelief }() }
        for begin in released { begin() }
    }

    /// Keeps `begin` until the account's readers have caught up; `false` if there is no need to wait.
    func hold(_ account: Account, _ begin: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            guard state.answers.holds(account) > 0, !state.answers.fits(0, for: account) else {
                return false
            }
            state.held[account, default: []].append(begin)
            return true
        }
    }
}

/// Request bytes that an account holds; refunded when the last reference goes. A class, for it travels in escaping closures,
/// which hold no noncopyable values.
package final class Charge: Sendable {
    private let accounts: Accounts
    private let account: Account
    private let amount: Int

    fileprivate init(_ accounts: Accounts, _ account: Account, _ amount: Int) {
        self.accounts = accounts
        self.account = account
        self.amount = amount
    }

    deinit { accounts.refund(amount, account) }
}

/// Bytes that a turn may add to a session's state; given back when the last reference goes.
package final class StateReservation: Sendable {
    private let accounts: Accounts
    private let account: Account
    private let bytes: Int

    fileprivate init(_ accounts: Accounts, _ account: Account, _ bytes: Int) {
        self.accounts = accounts
        self.account = account
        self.bytes = bytes
    }

    deinit { if bytes > 0 { accounts.changeState(by: -bytes, account) } }
}

/// A session that an account holds, and the bytes of its state; refunded when the last reference goes.
package final class SessionCharge: Sendable {
    private let accounts: Accounts
    package let account: Account
    private let held: Atomic<Int>

    fileprivate init(_ accounts: Accounts, _ account: Account, _ bytes: Int) {
        self.accounts = accounts
        self.account = account
        held = Atomic(bytes)
    }

    package var bytes: Int { held.load(ordering: .relaxed) }

    /// Charges what a turn may add to the state, or says why not.
    package func reserve(_ bytes: Int) throws(RPCError) -> StateReservation {
        if bytes > 0 { try accounts.reserveState(bytes, account) }
        return StateReservation(accounts, account, bytes)
    }

    /// The state has become larger. Called by one thread.
    package func grow(to bytes: Int) {
        let more = bytes - self.bytes
        guard more > 0 else { return }
        accounts.changeState(by: more, account)
        held.store(bytes, ordering: .relaxed)
    }

    deinit { accounts.refundSession(bytes, account) }
}
