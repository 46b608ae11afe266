// SPDX-License-Identifier: Apache-2.0

import ModelStore
import TestSupport
import Testing

@Suite("No bytes can do more than be refused")
struct FileMutationTests {
    /// Thousands of spoilt files, opened and, where one opens, read to the last byte. A trap, a fault or a read beyond the
    /// mapping (which ends on a page and is followed by pages nobody may read) would end the whole run.
    @Test("spoilt files are refused or read, never fatal", arguments: 0..<8)
    func spoilt(_ seed: UInt64) {
        var random = SeededGenerator(seed)
        var opened = 0
        var sound = RawFile()
        let length = sound.bytes.count
        sound.data += [UInt8](repeating: 3, count: (4096 - length % 4096) % 4096)
        let (whole, header) = (sound.bytes, sound.header.count)
        for _ in 0..<2000 {
            var bytes = whole
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                Self.spoil(&bytes, header: header, &random)
            }
            do {
                let file = try openSealed(bytes)
                opened += 1
                Self.readAll(file)
            } catch {
                #expect(error is StoreError)
            }
        }
        // Otherwise nothing past the header's digest would have been tried.
        #expect(opened > 100)
    }

    @Test("every count and length of the header set to extremes is refused or harmless")
    func extremes() {
        let (whole, header) = (RawFile().bytes, RawFile().header.count)
        for at in 4..<header - 8 {
            for step in 0..<3 {
                let value = Self.extremes[(at + 4 * step) % Self.extremes.count]
                var bytes = whole
                bytes.replaceSubrange(at..<at + 8, with: little(value))
                if let file = try? openSealed(bytes) { Self.readAll(file) }
            }
        }
    }

    private static let extremes: [UInt64] = [
        0, 1, .max, .max - 7, 1 << 63, UInt64(Int64.max), 1 << 32, UInt64(UInt32.max), 1 << 31,
        1 << 61, 0x0000_0009_0000_0009,
    ]

    private static func spoil(
        _ bytes: inout [UInt8], header: Int, _ random: inout SeededGenerator
    ) {
        guard bytes.count > 16 else { return }
        let end = min(header, bytes.count)
        let at = Int.random(in: 0..<end, using: &random)
        switch random.next() % 8 {
        case 0, 1: bytes[at] ^= 1 << UInt8(random.next() % 8)
        case 2: bytes[at] = UInt8(truncatingIfNeeded: random.next())
        case 3:
            let value = little(extremes.randomElement(using: &random)!)
            let part = value.prefix(min(random.next() % 2 == 0 ? 4 : 8, bytes.count - at))
            bytes.replaceSubrange(at..<at + part.count, with: part)
        case 4: bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random))
        case 5:
            let length = Int.random(in: 0...min(200, end - at), using: &random)
            bytes.insert(contentsOf: bytes[at..<at + length], at: at)
        case 6:
            bytes.removeSubrange(at..<at + Int.random(in: 0...min(200, end - at), using: &random))
        default:
            let last = bytes.count - 1
            bytes[Int.random(in: min(end, last)...last, using: &random)] ^= 0xff
        }
    }

    /// Asks a file everything that can be asked.
    private static func readAll(_ file: PackedFile) {
        let metadata = file.metadata
        for key in metadata.keys {
            _ = metadata.describe(key)
            _ = try? metadata.uint32(forKey: key)
            _ = try? metadata.float(forKey: key)
            _ = try? metadata.bool(forKey: key)
            _ = try? metadata.string(forKey: key)
            _ = try? metadata.strings(forKey: key)
            _ = try? metadata.uint32s(forKey: key)
            _ = try? metadata.int32s(forKey: key)
            _ = try? metadata.floats(forKey: key)
            _ = try? metadata.forEachString(forKey: key) { _ = Array($0) }
        }
        for tensor in file.tensors {
            _ = file.bytes(of: tensor).reduce(0) { $0 &+ $1 }
            _ = file.packed[tensor.name]
        }
        try? file.verify()
    }
}
