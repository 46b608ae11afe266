// SPDX-License-Identifier: Apache-2.0

import Engine

/// A session as it is kept: who owns it, how long it lives, where it is. Restarts read it back, of any byte that has changed they
/// notice it.
struct SessionRecord {
    /// Why bytes are no record.
    struct Damage: Error, CustomStringConvertible {
        let description: String
        init(_ description: String) { self.description = description }
    }

    static let version: UInt16 = 1
    /// The one flag there is.
    private static let unproven: UInt16 = 1
    static let headerBytes = 80
    var id: String
    var name: String
    var model: String
    /// Of the model.
    var digest: String
    var uid: UInt32
    /// Of two records of one session the higher counts.
    var generation: UInt64
    /// Nanoseconds; the latter two on CLOCK_REALTIME.
    var ttl: UInt64
    var created: UInt64
    var used: UInt64
    /// All tokens of the session.
    var history: TokenHistory
    /// Some turn was computed with a file whose bytes had not all been compared with their digests.
    var isUnproven = false
    /// A `SavedState`; empty where it is elsewhere.
    var state: [UInt8]

    /// Whether it has not been used for its time to live.
    func isOver(at now: UInt64) -> Bool {
        let (end, isEndless) = used.addingReportingOverflow(ttl)
        return !isEndless && end <= now
    }

    private var texts: [String] { [id, name, model, digest] }

    /// What stands before a state of so many bytes; they are a multiple of eight, as the state's are.
    func front(stateBytes: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.headerBytes + 512)
        func append(_ value: some FixedWidthInteger) {
            withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
        }
        append(Self.version)
        append(isUnproven ? Self.unproven : 0)
        append(uid)
        for number in [generation, ttl, created, used, UInt64(history.count), history.digest] {
            append(number)
        }
        append(UInt64(stateBytes))
        for text in texts { append(UInt32(text.utf8.count)) }
        for text in texts { bytes += text.utf8 }
        while bytes.count % 8 != 0 { bytes.append(0) }
        return bytes
    }

    /// Bytes of the checksum behind the state.
    static let endBytes = 8

    /// How long the state is, by a record's first bytes.
    static func stateBytes(_ front: [UInt8]) -> Int {
        front.withUnsafeBytes {
            Int(
                clamping: UInt64(
                    littleEndian: $0.loadUnaligned(fromByteOffset: 56, as: UInt64.self)))
        }
    }

    func encoded() -> [UInt8] {
        var bytes = front(stateBytes: state.count) + state
        while bytes.count % 8 != 0 { bytes.append(0) }
        withUnsafeBytes(of: SavedState.checksum(bytes[...]).littleEndian) { bytes += $0 }
        return bytes
    }

    init(
        id: String, name: String, model: String, digest: String, uid: UInt32, generation: UInt64,
        ttl: UInt64,
        created: UInt64, used: UInt64, history: TokenHistory, isUnproven: Bool = false,
        state: [UInt8] = []
    ) {
        self.isUnproven = isUnproven
        (self.id, self.name, self.model) = (id, name, model)
        (self.digest, self.uid) = (digest, uid)
        (self.generation, self.ttl, self.created, self.used) = (generation, ttl, created, used)
        (self.history, self.state) = (history, state)
    }

    init(decoding bytes: [UInt8]) throws(Damage) {
        guard bytes.count >= Self.headerBytes + 8, bytes.count % 8 == 0 else {
            throw Damage("it has \(bytes.count) bytes")
        }
        func number<T: FixedWidthInteger>(_ offset: Int, _: T.Type) -> T {
            bytes.withUnsafeBytes {
                T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self))
            }
        }
        guard SavedState.checksum(bytes.dropLast(8)) == number(bytes.count - 8, UInt64.self) else {
            throw Damage("its checksum does not match")
        }
        let (version, flags) = (number(0, UInt16.self), number(2, UInt16.self))
        guard version == Self.version, flags & ~Self.unproven == 0 else {
            throw Damage("its version is \(version), its flags are \(flags)")
        }
        isUnproven = flags & Self.unproven != 0
        uid = number(4, UInt32.self)
        generation = number(8, UInt64.self)
        ttl = number(16, UInt64.self)
        created = number(24, UInt64.self)
        used = number(32, UInt64.self)
        history = TokenHistory(
            count: Int(clamping: number(40, UInt64.self)), digest: number(48, UInt64.self))
        let size = Int(clamping: number(56, UInt64.self))
        var offset = Self.headerBytes
        var texts: [String] = []
        for index in 0..<4 {
            let end = offset + Int(number(64 + index * 4, UInt32.self))
            guard end <= bytes.count - 8,
                let text = String(validating: bytes[offset..<end], as: UTF8.self)
            else { throw Damage("a text in it ends after it does, or is not UTF-8") }
            texts.append(text)
            offset = end
        }
        (id, name, model, digest) = (texts[0], texts[1], texts[2], texts[3])
        offset = (offset + 7) / 8 * 8
        guard size <= bytes.count - 8 - offset else { throw Damage("its state ends after it does") }
        state = Array(bytes[offset..<offset + size])
    }
}
