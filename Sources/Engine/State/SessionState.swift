// SPDX-License-Identifier: Apache-2.0

/// Where a conversation is: what the model remembers of it, and the last token of its last answer, which no state has read.
package struct SessionState: Sendable {
    /// `nil` before anything was read.
    package let snapshot: StateSnapshot?
    /// At most one token.
    package let unread: [UInt32]

    package static let empty = SessionState(snapshot: nil, unread: [])

    package init(snapshot: StateSnapshot?, unread: [UInt32]) {
        self.snapshot = snapshot
        self.unread = unread
    }

    package var isEmpty: Bool { snapshot == nil && unread.isEmpty }

    /// All tokens of the conversation.
    package var history: TokenHistory {
        var history = snapshot?.history ?? TokenHistory()
        history.append(unread)
        return history
    }
}
