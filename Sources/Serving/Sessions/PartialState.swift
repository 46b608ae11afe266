// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import Synchronization

/// A state that Restore is given in parts. Each part is checked and goes at once to where the record will be; no entry leads there
/// before all have come, so a process that ends meanwhile leaves nothing. What is here takes some hundred bytes.
final class PartialState: Sendable {
    private struct Progress {
        var reader = SavedStateReader()
        /// Of the record.
        var sum = StateChecksum()
    }

    let place: SessionMemory.Place
    /// Of the whole state.
    let byteCount: Int
    /// Where it begins in the record.
    private let start: Int
    private let progress: Mutex<Progress>
    private let count = Atomic<Int>(0)

    /// Bytes that have come.
    var received: Int { count.load(ordering: .relaxed) }

    /// - Parameter front: of the record.
    init(_ place: SessionMemory.Place, byteCount: Int, front: [UInt8]) {
        self.place = place
        self.byteCount = byteCount
        start = front.count
        var progress = Progress()
        progress.sum.add(front)
        self.progress = Mutex(progress)
    }

    /// Takes bytes that belong at `offset`, one caller's after the other's.
    ///
    /// - Parameters:
    ///   - isLast: whether no others are to come.
    ///   - id: the session's, for errors.
    ///   - put: writes bytes at an offset of the record.
    ///   - then: told, while no other part is taken, whether all have come; or what makes these bytes no state.
    /// - Throws: why nothing was taken, what `put` throws or `then`.
    func take<R>(
        _ bytes: [UInt8], at offset: UInt64, isLast: Bool, of id: String,
        put: (UnsafeRawBufferPointer, Int) throws(RPCError) -> Void,
        then: (Result<Bool, SavedStateError>) throws(RPCError) -> R
    ) throws(RPCError) -> R {
        try progress.withLock { progress throws(RPCError) in
            let first = progress.reader.received
            guard offset == first else {
                throw RPCError(
                    .failedPrecondition,
                    "offset: this part of the state of session '\(id)' begins at byte \(offset); \(first) of \(byteCount) have come, and the next part begins there",
                    reason: "WRONG_OFFSET")
            }
            let rest = byteCount - first
            guard bytes.count <= rest, !isLast || bytes.count == rest else {
                throw .invalid(
                    "state",
                    "\(SavedStateError.truncated(expected: byteCount, found: first + bytes.count)); nothing of this part was taken"
                )
            }
            do throws(SavedStateError) { try progress.reader.take(bytes) } catch {
                return try then(.failure(error))
            }
            progress.sum.add(bytes)
            for from in stride(from: 0, to: bytes.count, by: SessionStore.partBytes) {
                let end = min(bytes.count, from + SessionStore.partBytes)
                try Self.bytes(bytes[from..<end], at: start + first + from, put)
            }
            count.store(progress.reader.received, ordering: .relaxed)
            guard progress.reader.isComplete else { return try then(.success(false)) }
            let end = withUnsafeBytes(of: progress.sum.value.littleEndian) { Array($0) }
            try Self.bytes(end[...], at: start + byteCount, put)
            return try then(.success(true))
        }
    }

    private static func bytes(
        _ bytes: ArraySlice<UInt8>, at offset: Int,
        _ put: (UnsafeRawBufferPointer, Int) throws(RPCError) -> Void
    ) throws(RPCError) {
        let result = bytes.withUnsafeBytes { bytes in
            Result { () throws(RPCError) in try put(bytes, offset) }
        }
        try result.get()
    }
}
