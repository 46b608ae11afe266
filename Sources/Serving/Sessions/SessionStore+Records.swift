// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import Synchronization

/// Records, written and read in parts: a state with keys and values takes hundreds of MiB, and is not to be there once more.
extension SessionStore {
    /// Bytes of a record that are read or written at a time.
    static let partBytes = 256 << 10

    /// Writes a record that is in nobody's way yet; without the lock, as long as it takes.
    ///
    /// - Returns: `nil` if there is no room or no memory for it.
    func write(_ record: SessionRecord, _ saved: SavedState) -> SessionMemory.Place? {
        let front = record.front(stateBytes: saved.byteCount)
        let length = front.count + saved.byteCount + SessionRecord.endBytes
        let (memory, reserved) = state.withLock { ($0.memory, $0.memory.reserve(length)) }
        guard let place = reserved else { return nil }
        var sum = StateChecksum()
        var offset = 0
        var isWritten = true
        func put(_ bytes: UnsafeRawBufferPointer) {
            isWritten = isWritten && memory.write(bytes, at: offset, in: place)
            offset += bytes.count
        }
        func add(_ bytes: UnsafeRawBufferPointer) {
            sum.add(bytes)
            put(bytes)
        }
        front.withUnsafeBytes(add)
        saved.encode(add)
        withUnsafeBytes(of: sum.value.littleEndian) { put($0) }
        if isWritten { return place }
        state.withLock { $0.memory.remove(place) }
        return nil
    }

    /// Some bytes of the record with this number, of those that it has; `nil` if the session has none with it any more, or it cannot be
    /// read.
    func part(_ id: String, _ generation: UInt64, _ range: Range<Int>) -> [UInt8]? {
        state.withLock { state in
            guard let entry = try? state.book.find(id), entry.generation == generation else {
                return nil
            }
            return state.memory.read(entry.place, range.clamped(to: 0..<entry.place.length))
        }
    }

    /// Why a part of a record does not come: the session has another record by now, or it cannot be read.
    fileprivate func absence(of entry: SessionBook.Entry) -> StateParts.Failure {
        let isThere = state.withLock { state in
            (try? state.book.find(entry.id))?.generation == entry.generation
        }
        return isThere ? .damage("it cannot be read") : .gone
    }

    /// A session at its last complete turn. One that is damaged is lost.
    func read(_ id: String) throws(RPCError) -> (entry: SessionBook.Entry, state: SessionState) {
        try reading(id) { entry throws(StateParts.Failure) in
            var first = try StateParts(self, entry)
            var builder = StateBuilder(try first.header())
            var parts = try StateParts(self, entry)
            while try parts.next(into: &builder) {}
            return (entry, builder.state())
        }
    }

    /// What stands before the numbers of a session at its last complete turn.
    func outline(_ id: String) throws(RPCError) -> SessionOutline {
        try reading(id) { entry throws(StateParts.Failure) in
            var parts = try StateParts(self, entry)
            return SessionOutline(
                id: entry.id, generation: entry.generation, header: try parts.header())
        }
    }

    /// Gives the entry of a session until its record can be read.
    private func reading<Value>(
        _ id: String, _ body: (SessionBook.Entry) throws(StateParts.Failure) -> Value
    ) throws(RPCError) -> Value {
        while true {
            let entry = try whole(id)
            do throws(StateParts.Failure) { return try body(entry) } catch {
                // A turn has come to its end meanwhile, or it was dropped.
                if case .gone = error { continue }
                throw refusal(error, entry)
            }
        }
    }

    /// What a caller is told who gets no state. One that is damaged is lost.
    func refusal(_ failure: StateParts.Failure, _ entry: SessionBook.Entry) -> RPCError {
        switch failure {
        case .damage(let why): lose(entry, "its record is damaged: \(why)")
        case .gone:
            RPCError(
                .aborted,
                "session '\(entry.id)' has gone on, or was dropped, while its state was read: ask again",
                reason: "SESSION_CHANGED"
            ).retrying(after: 0)
        case .memory(let error): RPCError(.resourceExhausted, "\(error)", reason: "NO_MEMORY")
        }
    }

    /// The same for a turn, whose session goes on with no other.
    func refusal(ofTurn failure: StateParts.Failure, _ entry: SessionBook.Entry) -> RPCError {
        if case .gone = failure {
            // Dropped or lost, most likely.
            do throws(RPCError) { _ = try whole(entry.id) } catch { return error }
        }
        return refusal(failure, entry)
    }

    /// A session that has all of its state.
    func whole(_ id: String) throws(RPCError) -> SessionBook.Entry {
        try state.withLock { state throws(RPCError) in
            let entry = try state.book.find(id)
            try entry.checkWhole()
            return entry
        }
    }
}

/// The state of a session's record, part by part, checked on the way: who has had all parts has had a whole state.
struct StateParts {
    enum Failure: Error {
        /// The session has another record now, or is dropped.
        case gone
        case damage(String)
        /// The system has none for the state.
        case memory(ModelError)
    }

    private let store: SessionStore
    private let entry: SessionBook.Entry
    private var reader = SavedStateReader()
    /// Bytes of the state.
    let byteCount: Int

    /// - Throws: `Failure`.
    init(_ store: SessionStore, _ entry: SessionBook.Entry) throws(Failure) {
        self.store = store
        self.entry = entry
        guard let front = store.part(entry.id, entry.generation, 0..<SessionRecord.headerBytes)
        else { throw store.absence(of: entry) }
        byteCount = SessionRecord.stateBytes(front)
        guard byteCount > 0, byteCount <= entry.place.length - front.count - SessionRecord.endBytes
        else { throw .damage("its state has \(byteCount) bytes") }
    }

    /// Bytes that `next` has given.
    var offset: Int { reader.received }

    /// The next bytes, as many as there are and at most so many; `nil` after the last.
    mutating func next(_ most: Int = SessionStore.partBytes) throws(Failure) -> [UInt8]? {
        guard offset < byteCount else { return nil }
        let end = min(byteCount, offset + most)
        let start = entry.place.length - SessionRecord.endBytes - byteCount
        guard
            let bytes = store.part(entry.id, entry.generation, start + offset..<start + end)
        else { throw store.absence(of: entry) }
        do throws(SavedStateError) {
            try reader.take(bytes)
            if let said = reader.byteCount, said != byteCount {
                throw .truncated(expected: said, found: byteCount)
            }
        } catch { throw .damage("\(error)") }
        return bytes
    }

    /// What stands before the numbers, before a part has been taken; and no more is read.
    mutating func header() throws(Failure) -> SavedStateHeader {
        _ = try next(SavedStateHeader.mostBytes)
        guard let header = reader.header else { throw .damage("its state ends after it does") }
        return header
    }

    /// Gives the next bytes of the numbers to a builder, of the state whose header this has.
    ///
    /// - Returns: whether others follow.
    mutating func next(into builder: inout StateBuilder) throws(Failure) -> Bool {
        let offset = offset
        guard let bytes = try next() else { throw .damage("its state ends after it does") }
        if let header = reader.header, let place = reader.values {
            guard header == builder.header else { throw .damage("it is another state's") }
            let some = place.clamped(to: offset..<offset + bytes.count)
            let result = bytes[some.lowerBound - offset..<some.upperBound - offset]
                .withUnsafeBytes { bytes in
                    Result { () throws(ModelError) in try builder.take(bytes) }
                }
            do throws(ModelError) { try result.get() } catch { throw .memory(error) }
        }
        guard self.offset == byteCount else { return true }
        guard reader.isComplete else { throw .damage("its state ends after it does") }
        return false
    }
}
