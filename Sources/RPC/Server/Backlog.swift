// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// The bytes of one connection's answers that the system does not have yet, and the calls that begin only when most of them are
/// out. Any thread may use it.
final class Backlog: Sendable {
    /// Bytes beyond which no more calls of a connection are begun: two of the largest answers.
    static let limit = 2 * FrameHeader.dataLimit

    private struct State {
        var bytes = 0
        var held: [@Sendable () -> Void] = []
    }
    private let state = Mutex(State())
    private let accounts: Accounts
    private let account: Account

    init(_ accounts: Accounts, _ account: Account) {
        self.accounts = accounts
        self.account = account
    }

    func add(_ bytes: Int) {
        state.withLock { $0.bytes += bytes }
        accounts.addAnswer(bytes, account)
    }

    func remove(_ bytes: Int) {
        release { state in
            state.bytes -= bytes
            return state.bytes <= Self.limit
        }
        accounts.removeAnswer(bytes, account)
    }

    /// Keeps `begin` until the readers of this connection, and of its account, have caught up; `false` if there is no need to
    /// wait.
    func hold(_ begin: @escaping @Sendable () -> Void) -> Bool {
        let isHeld = state.withLock { state in
            guard state.bytes > Self.limit else { return false }
            state.held.append(begin)
            return true
        }
        return isHeld || accounts.hold(account, begin)
    }

    /// The connection is closed: nobody waits for its reader any more.
    func abandon() { release { _ in true } }

    private func release(_ isTime: (inout State) -> Bool) {
        let held = state.withLock { state in
            guard isTime(&state) else { return [@Sendable () -> Void]() }
            defer { state.held = [] }
            return state.held
        }
        for begin in held { begin() }
    }
}
