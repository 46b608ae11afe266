// SPDX-License-Identifier: Apache-2.0

import ModelStore
import SystemPackage
import TestSupport
import Testing

/// A file's contents, made at random.
struct RandomContents {
    var metadata: [(key: String, value: MetadataValue)] = RandomContents.required
    var tensors: [TensorPlan] = []
    /// Each tensor's bytes.
    var data: [[UInt8]] = []
    /// By name, for packed tensors.
    var scales: [String: Float] = [:]

    static let required: [(key: String, value: MetadataValue)] = [
        (FormatKeys.architecture, .string(Format.architecture)),
        (FormatKeys.alignment, .uint32(UInt32(Format.alignment))),
        (FormatKeys.hgrnbit.formatVersion, .uint32(Format.version)),
    ]

    init() {}

    init(_ random: inout SeededGenerator) {
        for index in 0..<Int.random(in: 0...10, using: &random) {
            metadata.append(("test.\(index)", Self.value(&random)))
        }
        for index in 0..<Int.random(in: 1...12, using: &random) {
            let name = "blk.\(index).x\(random.next() % 100).weight"
            if random.next() % 3 == 0 {
                let plan = TensorPlan(
                    packed: name, rows: .random(in: 1...50, using: &random),
                    columns: .random(in: 1...70, using: &random), sourceType: "BF16")
                scales[name] = 0.01 + random.unit()
                tensors.append(plan)
            } else {
                let type = [TensorType.f32, .f16, .bf16, .i8, .i32].randomElement(using: &random)!
                // Now and then past 64 KiB, from where tensors start on pages.
                let large = random.next() % 8 == 0
                let count = Int.random(in: 1...4, using: &random)
                let shape = (0..<count).map { _ in Int.random(in: 1...6, using: &random) }
                tensors.append(
                    TensorPlan(name: name, type: type, shape: large ? [300, 257] : shape))
            }
        }
        data = tensors.map { tensor in
            (0..<tensor.byteCount).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        }
    }

    private static func value(_ random: inout SeededGenerator) -> MetadataValue {
        let count = Int(random.next() % 5)
        func text(_ random: inout SeededGenerator) -> String {
            ["", "a", "▁Wort", "\u{0}", "e\u{301}", "🦊"].randomElement(using: &random)!
        }
        switch random.next() % 8 {
        case 0: return .uint32(UInt32(truncatingIfNeeded: random.next()))
        case 1: return .float(random.gaussian())
        case 2: return .bool(random.next() % 2 == 0)
        case 3: return .string(text(&random))
        case 4: return .strings((0..<count).map { _ in text(&random) })
        case 5: return .uint32s((0..<count).map { _ in UInt32(truncatingIfNeeded: random.next()) })
        case 6: return .int32s((0..<count).map { _ in Int32(truncatingIfNeeded: random.next()) })
        default: return .floats((0..<count).map { _ in random.gaussian() })
        }
    }

    /// Writes it all, in pieces of random sizes that do not stop at tensors, scales set in between.
    func write(to path: FilePath, _ random: inout SeededGenerator) throws {
        var writer = try PackedWriter(path: path, metadata: metadata, tensors: tensors)
        var rest = data.flatMap { $0 }[...]
        var unset = scales.sorted { $0.key < $1.key }[...]
        while !rest.isEmpty {
            let piece = rest.prefix(.random(in: 0...40_000, using: &random))
            try piece.withUnsafeBytes { try writer.write($0) }
            rest = rest.dropFirst(piece.count)
            if random.next() % 2 == 0, let (name, scale) = unset.popFirst() {
                try writer.setScale(scale, of: name)
            }
        }
        for (name, scale) in unset { try writer.setScale(scale, of: name) }
        let size = writer.fileSize
        try writer.finish()
        #expect(try FileIdentity(path: path).size == size)
    }
}

@Suite("What is written is what is read")
struct FileRoundTripTests {
    @Test("metadata, tensors, scales and digests of random files come back", arguments: 0..<24)
    func roundTrip(_ seed: UInt64) throws {
        var random = SeededGenerator(seed)
        let contents = RandomContents(&random)
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            try contents.write(to: path, &random)
            let file = try PackedFile(path: path)
            try file.verify()
            try expect(file.metadata, contents)
            #expect(file.tensors.map(\.name) == contents.tensors.map(\.name))
            for (plan, data) in zip(contents.tensors, contents.data) {
                let info = try #require(file[plan.name])
                #expect(info.type == plan.type && info.shape == plan.shape)
                #expect(Array(file.bytes(of: info)) == data)
                let matrix = file.packed[plan.name]
                #expect((matrix != nil) == (plan.packed != nil))
                #expect(matrix?.scale == contents.scales[plan.name])
                #expect(matrix?.rows == plan.packed?.rows)
                #expect(matrix?.columns == plan.packed?.columns)
                #expect(matrix?.sourceType == plan.packed?.sourceType)
            }
        }
    }

    private func expect(_ found: Metadata, _ contents: RandomContents) throws {
        #expect(found.keys.starts(with: contents.metadata.map(\.key)))
        for (key, value) in contents.metadata {
            switch value {
            case .uint32(let value): #expect(try found.uint32(forKey: key) == value)
            case .float(let value): #expect(try found.float(forKey: key) == value)
            case .bool(let value): #expect(try found.bool(forKey: key) == value)
            case .string(let value): #expect(try found.string(forKey: key) == value)
            case .strings(let value):
                #expect(try found.strings(forKey: key) == value)
                var lent: [[UInt8]] = []
                #expect(
                    try found.forEachString(forKey: key) { lent.append(Array($0)) } == value.count)
                #expect(lent == value.map { Array($0.utf8) })
            case .uint32s(let value): #expect(try found.uint32s(forKey: key) == value)
            case .int32s(let value): #expect(try found.int32s(forKey: key) == value)
            case .floats(let value): #expect(try found.floats(forKey: key) == value)
            }
        }
    }

    @Test("tensors start on 64 bytes, large ones on pages, the first packed one on 2 MiB")
    func places() throws {
        for seed in UInt64(100)..<108 {
            var random = SeededGenerator(seed)
            let contents = RandomContents(&random)
            try withDirectory { directory in
                let path = directory.appending("m.gguf")
                try contents.write(to: path, &random)
                let file = try PackedFile(path: path)
                for tensor in file.tensors {
                    let multiple = tensor.byteCount >= 65536 ? 4096 : 64
                    #expect(tensor.offset % multiple == 0)
                    #expect(UInt(bitPattern: file.pointer(to: tensor)) % UInt(multiple) == 0)
                }
                if let first = file.tensors.first(where: { file.packed[$0.name] != nil }) {
                    #expect(first.offset % (2 << 20) == 0)
                    #expect(UInt(bitPattern: file.pointer(to: first)) % (2 << 20) == 0)
                }
            }
        }
    }

    @Test("one other scale, fact or weight is another model")
    func identity() throws {
        var random = SeededGenerator(7)
        var contents = RandomContents()
        contents.tensors = [
            TensorPlan(packed: "a.weight", rows: 16, columns: 20, sourceType: "F32")
        ]
        contents.data = [[UInt8](repeating: 1, count: 64)]
        contents.scales = ["a.weight": 1]
        var (scaled, described, weighed) = (contents, contents, contents)
        scaled.scales["a.weight"] = Float(1).nextUp
        described.metadata.append((FormatKeys.hgrnbit.contextLength, .uint32(2048)))
        weighed.data[0][63] = 2
        try withDirectory { directory in
            var digests: Set<String> = []
            for (index, contents) in [contents, scaled, described, weighed].enumerated() {
                let path = directory.appending("\(index).gguf")
                try contents.write(to: path, &random)
                digests.insert(try PackedFile(path: path).modelDigest)
            }
            #expect(digests.count == 4)
        }
    }

    @Test("verify names the first tensor that is not as it was written")
    func damaged() throws {
        var random = SeededGenerator(8)
        var contents = RandomContents()
        contents.tensors = ["a", "b", "c"].map { TensorPlan(name: $0, type: .f32, shape: [100]) }
        contents.data = contents.tensors.map { [UInt8](repeating: 7, count: $0.byteCount) }
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            try contents.write(to: path, &random)
            let file = try PackedFile(path: path)
            try file.verify()
            let handle = try FileDescriptor.open(path, .writeOnly)
            try handle.closeAfter {
                for name in ["c", "b"] {
                    let last = try #require(file[name]).offset + 399
                    _ = try handle.writeAll(toAbsoluteOffset: Int64(last), [6])
                    let error = #expect(throws: StoreError.self) {
                        try PackedFile(path: path).verify()
                    }
                    guard case .damaged("tensor \(name)", file.digest(of: name), _) = error else {
                        Issue.record("\(error!) does not name \(name)")
                        continue
                    }
                }
            }
            #expect(throws: StoreError.self) { try file.verify() }
            var seen: [Int] = []
            try PackedFile(path: path).verify { done, total in
                #expect(total == 1200)
                seen.append(done)
                return false
            }
            #expect(seen == [400])
        }
    }
}
