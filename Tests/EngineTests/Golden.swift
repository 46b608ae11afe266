// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import ModelStore
import Packer
import Synchronization
import SystemPackage

/// A golden case: its checkpoint packed and bound, and what the original code made of it.
struct Golden {
    static let names = [
        "a_default_f32", "b_bf16", "c_fp16", "d_odd_96_160", "e_heads4", "h_sharded",
        "i_prequant_bf16", "l_inter_null",
    ]

    let model: Model
    let inputs: [UInt32]
    let greedy: [UInt32]
    let atol: Float
    let rtol: Float
    private let expected: SafetensorsFile

    init(_ name: String) throws {
        let directory = fixtures.appending("golden").appending(name)
        model = try packed(directory, as: name)
        expected = try SafetensorsFile(path: directory.appending("expected.safetensors"))
        let facts = try JSON(parsing: readAll(directory.appending("expected.json")))
        inputs = facts["input_ids"]?.array?.compactMap { $0.integer.map { UInt32($0) } } ?? []
        greedy = facts["greedy"]?.array?.compactMap { $0.integer.map { UInt32($0) } } ?? []
        atol = Float(facts["atol"]?.number ?? 0)
        rtol = Float(facts["rtol"]?.number ?? 0)
    }

    /// An expected tensor's values; all of these are float32.
    func floats(_ name: String) throws -> [Float] {
        guard let entry = expected[name] else { throw Missing(name: name) }
        let bytes = expected.bytes(of: entry)
        return (0..<entry.count).map {
            bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self)
        }
    }

    struct Missing: Error { let name: String }
}

/// Tests/Fixtures.
let fixtures = FilePath(#filePath).removingLastComponent().removingLastComponent()
    .appending("Fixtures")

private let packedModels = Mutex<[String: Model]>([:])

/// A checkpoint packed once for all tests, and bound. The file is gone from the disk at once; its mapping stays.
func packed(_ checkpoint: FilePath, as name: String) throws -> Model {
    try packedModels.withLock { models in
        if let model = models[name] { return model }
        let path = FilePath("/tmp/mmfreed-tests-\(getpid())-\(name).gguf")
        defer { unlink(path.string) }
        _ = try PackJob(Checkpoint(directory: checkpoint), to: path, replacing: true).run()
        let model = try Model(PackedFile(path: path))
        models[name] = model
        return model
    }
}

func readAll(_ path: FilePath) throws -> [UInt8] {
    let file = try FileDescriptor.open(path, .readOnly)
    defer { try? file.close() }
    var all: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 20)
    while true {
        let count = try chunk.withUnsafeMutableBytes { try file.read(into: $0) }
        if count == 0 { return all }
        all += chunk[..<count]
    }
}
