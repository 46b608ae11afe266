// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC

/// Where a session is, without its numbers: its record, and what stands before them there. It holds nothing: a session that is dropped
/// is gone, whoever waits for it.
struct SessionOutline {
    let id: String
    /// The record's number.
    let generation: UInt64
    let header: SavedStateHeader
}

/// A session's state on its way into the memory of a turn, some parts at a time.
struct SessionReading {
    private let store: SessionStore
    private let entry: SessionBook.Entry
    private var parts: StateParts
    private var builder: StateBuilder

    /// - Parameter builder: of the state that was outlined.
    init(
        _ store: SessionStore, _ outline: SessionOutline, _ builder: StateBuilder
    ) throws(RPCError) {
        let entry = try store.whole(outline.id)
        guard entry.generation == outline.generation else { throw store.refusal(.gone, entry) }
        (self.store, self.entry, self.builder) = (store, entry, builder)
        do throws(StateParts.Failure) { parts = try StateParts(store, entry) } catch {
            throw store.refusal(ofTurn: error, entry)
        }
    }

    /// Reads on.
    ///
    /// - Parameter most: bytes that may be read now, and are then fewer; the last part may be more.
    /// - Returns: the state, once all of it has come.
    /// - Throws: why there is none. One that is damaged is lost.
    mutating func advance(_ most: inout Int) throws(RPCError) -> SessionState? {
        do throws(StateParts.Failure) {
            while most > 0 {
                let before = parts.offset
                let isOver = try !parts.next(into: &builder)
                most -= parts.offset - before
                if isOver { return builder.state() }
            }
            return nil
        } catch { throw store.refusal(ofTurn: error, entry) }
    }
}
