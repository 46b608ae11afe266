// SPDX-License-Identifier: Apache-2.0

import Engine
import Logging
import ModelStore
import RPC
import Synchronization

/// What an earlier process has left. What of it is damaged is lost and named, and nothing else.
extension SessionStore {
    private static let mostComplaints = 10

    /// Takes the sessions in an earlier process's memory.
    func recover(from old: SessionMemory, to memory: SessionMemory) {
        var records: [String: (place: SessionMemory.Place, record: SessionRecord)] = [:]
        var (found, damage) = old.recover { length, part throws(SessionRecord.Damage) in
            try SessionRecord(length: length, part)
        }
        for (place, record) in found {
            guard let other = records[record.id] else {
                records[record.id] = (place, record)
                continue
            }
            // The process ended between a turn's record and the removal of the one before it.
            let isNewer = other.record.generation < record.generation
            old.remove(isNewer ? other.place : place)
            if isNewer { records[record.id] = (place, record) }
        }
        found = []
        for (place, record) in records.values.sorted(by: { $0.record.created < $1.record.created })
        {
            if old === memory {
                enter(record, at: place)
            } else if !enter(record, place.length, { old.read(place, $0) }) {
                damage.append("there is no room for session \(record.id)")
            }
        }
        for one in damage.prefix(Self.mostComplaints) {
            logger.error("a session is lost, for its record is damaged: \(one)")
        }
        logger.notice(
            "\(state.withLock { $0.book.count }) sessions were kept over the restart, \(damage.count) are lost"
        )
    }

    /// Takes the sessions that are on disk and not in memory, or in memory at an earlier turn; and has those written that are not
    /// on disk. Files that cannot be used stay where they are.
    ///
    /// - Parameter most: the bytes a record may have.
    func recover(from disk: SessionDisk, most: Int) {
        let directory = disk.directory
        let ids: [String]
        do throws(StoreError) { ids = try directory.ids() } catch {
            logger.error("the sessions on disk are not there: \(error)")
            return
        }
        var (taken, over) = (0, 0)
        var damage: [String] = []
        for id in ids {
            do throws(SessionRecord.Damage) {
                let file = try directory.open(id, most: most)
                let record = file.record
                let known = state.withLock { try? $0.book.find(id) }
                if let known, known.generation >= record.generation {
                    state.withLock { $0.book.stored(id, record.generation) }
                } else if known == nil, record.isOver(at: clock()) {
                    directory.remove(id)
                    over += 1
                } else {
                    discard(id)
                    guard enter(record, file.length, file.part) else {
                        throw .init("there is no room for it in memory")
                    }
                    state.withLock { $0.book.stored(id, record.generation) }
                    taken += 1
                }
            } catch { damage.append("\(directory.file(id)): \(error)") }
        }
        for one in damage.prefix(Self.mostComplaints) {
            logger.error("a session on disk is not there, its file stays: \(one)")
        }
        if taken + over + damage.count > 0 {
            logger.notice(
                "\(taken) sessions were on disk alone, \(over) were over, \(damage.count) cannot be used"
            )
        }
        state.withLock { state in
            for entry in state.book.all where entry.stored != entry.generation {
                keep(entry.id, entry.generation)
            }
        }
    }

    /// Enters a session whose record is not in memory yet.
    ///
    /// - Returns: false if there is no room.
    private func enter(
        _ record: SessionRecord, _ length: Int, _ part: (Range<Int>) -> [UInt8]?
    ) -> Bool {
        guard let place = state.withLock({ $0.memory.add(length, part) }) else { return false }
        enter(record, at: place)
        return true
    }

    private func enter(_ record: SessionRecord, at place: SessionMemory.Place) {
        let charge = accounts.restoreSession(place.byteCount, of: Account(uid: record.uid))
        state.withLock {
            $0.book.insert(
                SessionBook.Entry(
                    id: record.id, name: record.name, model: record.model, digest: record.digest,
                    charge: charge, ttl: record.ttl, created: record.created, used: record.used,
                    place: place, generation: record.generation, history: record.history,
                    isUnproven: record.isUnproven))
        }
    }

    private func discard(_ id: String) {
        state.withLock { state in
            if let entry = state.book.remove(id) { state.memory.remove(entry.place) }
        }
    }
}
