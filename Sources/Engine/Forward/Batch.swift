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

/// One token fed to one slot.
///
/// Rows of the same slot are taken in the order given; rows of other slots may stand between them.
package struct BatchRow: Sendable, Equatable {
    package var slot: Int
    package var token: UInt32
    package var wants: Wants

    package init(slot: Int, token: UInt32, wants: Wants) {
        self.slot = slot
        self.token = token
        self.wants = wants
    }
}
