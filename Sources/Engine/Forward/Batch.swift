// SPDX-License-Identifier: Apache-2.0

/// What a row of a batch is wanted for, besides advancing its slot's state.
package enum Wants: UInt8, Sendable {
    /// Only the state: every prompt token but the last.
    case nothing
    /// The logits after this token: [vocabulary].
    case logits
    /// The final hidden state after this token: [hidden].
    case hidden
}

/// One token fed to the state of one slot; the state after it goes to that slot or to another, whose own is overwritten.
///
/// Rows are taken in the order given: a row reads what the last row before it that wrote its slot has left there. So a state is
/// forked, or kept at any token, without a copy.
package struct BatchRow: Sendable, Equatable {
    /// The slot whose state the token is read with.
    package var from: Int
    /// The slot that has the state after it.
    package var to: Int
    package var token: UInt32
    package var wants: Wants

    package init(from: Int, to: Int, token: UInt32, wants: Wants) {
        self.from = from
        self.to = to
        self.token = token
        self.wants = wants
    }

    /// A row that reads and writes the same slot.
    package init(slot: Int, token: UInt32, wants: Wants) {
        self.init(from: slot, to: slot, token: token, wants: wants)
    }
}
