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

    init(
        id: String, name: String, model: String, digest: String, uid: UInt32, generation: UInt64,
        ttl: UInt64,
        created: UInt64, used: UInt64, history: TokenHistory, isUnproven: Bool = false
    ) {
        self.isUnproven = isUnproven
        (self.id, self.name, self.model) = (id, name, model)
        (self.digest, self.uid) = (digest, uid)
        (self.generation, self.ttl, self.created, self.used) = (generation, ttl, created, used)
        self.history = history
    }

    /// Reads a record in parts. Its state is checked with it, and not kept.
    ///
    /// - Parameter part: some of its bytes; `nil` if they cannot be read.
    init(length: Int, _ part: (Range<Int>) -> [UInt8]?) throws(Damage) {
        guard length >= Self.headerBytes + Self.endBytes, length % 8 == 0 else {
            throw Damage("it has \(length) bytes")
        }
        let checked = length - Self.endBytes
        var sum = StateChecksum()
        var (front, end): ([UInt8], [UInt8]) = ([], [])
        for from in stride(from: 0, to: length, by: SessionStore.partBytes) {
            let to = min(length, from + SessionStore.partBytes)
            guard let bytes = part(from..<to), bytes.count == to - from else {
                throw Damage("it cannot be read")
            }
            if from == 0 { front = bytes }
            sum.add(bytes.prefix(max(0, checked - from)))
            end += bytes.dropFirst(max(0, checked - from))
        }
        guard end.elementsEqual(withUnsafeBytes(of: sum.value.littleEndian) { Array($0) }) else {
            throw Damage("its checksum does not match")
        }
        try self.init(front, before: checked)
    }

    /// - Parameters:
    ///   - bytes: of the record, from its first on; all that stands before the state.
    ///   - end: of the state.
    private init(_ bytes: [UInt8], before end: Int) throws(Damage) {
        func number<T: FixedWidthInteger>(_ offset: Int, _: T.Type) -> T {
            bytes.withUnsafeBytes {
                T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self))
            }
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
        let size = Self.stateBytes(bytes)
        var offset = Self.headerBytes
        var texts: [String] = []
        for index in 0..<4 {
            let next = offset + Int(number(64 + index * 4, UInt32.self))
            guard next <= min(bytes.count, end),
                let text = String(validating: bytes[offset..<next], as: UTF8.self)
            else { throw Damage("a text in it ends after it does, or is not UTF-8") }
            texts.append(text)
            offset = next
        }
        (id, name, model, digest) = (texts[0], texts[1], texts[2], texts[3])
        offset = (offset + 7) / 8 * 8
        guard size <= end - offset else { throw Damage("its state ends after it does") }
    }
}
