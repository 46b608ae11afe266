// SPDX-License-Identifier: Apache-2.0

/// The sessions of a chat: the present one, and those that it was before each turn. Taking a turn back is going to another session,
/// so it costs nothing and is exact. Says which sessions are no longer needed.
struct ChatHistory {
    private(set) var current: String
    private(set) var past: [String] = []
    private(set) var future: [String] = []
    /// Turns that can be taken back.
    let depth: Int

    init(_ session: String, depth: Int = 16) {
        current = session
        self.depth = depth
    }

    /// All sessions that are kept.
    var all: [String] { past + [current] + future }

    /// A turn is about to begin; `copy` is what the present session is now.
    ///
    /// - Returns: sessions to drop.
    mutating func beginTurn(copy: String) -> [String] {
        var dropped = future
        future = []
        past.append(copy)
        if past.count > depth { dropped.append(past.removeFirst()) }
        return dropped
    }

    /// What was taken back is not wanted again.
    ///
    /// - Returns: sessions to drop.
    mutating func forget() -> [String] {
        defer { future = [] }
        return future
    }

    /// Goes on from another session; the present one can be gone back to.
    mutating func replace(with session: String) -> [String] {
        let dropped = beginTurn(copy: current)
        current = session
        return dropped
    }

    /// The turn that has begun goes on in another session, which reads the conversation from its beginning.
    ///
    /// - Returns: sessions to drop.
    mutating func restart(in session: String) -> [String] {
        defer { current = session }
        return [current]
    }

    /// - Returns: whether there was a turn to take back.
    mutating func undo() -> Bool {
        guard let before = past.popLast() else { return false }
        future.append(current)
        current = before
        return true
    }

    /// - Returns: whether one had been taken back.
    mutating func redo() -> Bool {
        guard let next = future.popLast() else { return false }
        past.append(current)
        current = next
        return true
    }
}
