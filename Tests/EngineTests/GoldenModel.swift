// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import ModelStore
import Packer
import Synchronization
import SystemPackage
import TestSupport

/// A golden case whose checkpoint is packed and bound.
struct GoldenModel {
    let model: Model
    let inputs: [UInt32]
    let greedy: [UInt32]
    let atol: Float
    let rtol: Float
    private let golden: Golden

    init(_ name: String) throws {
        golden = try Golden(name)
        model = try packed(golden.directory, as: name)
        inputs = golden.ints("input_ids").map { UInt32($0) }
        greedy = golden.ints("greedy").map { UInt32($0) }
        (atol, rtol) = golden.tolerances
    }

    /// An expected tensor's values; all of these are float32.
    func floats(_ name: String) throws -> [Float] { try golden.values(name) }
}

private let packedModels = Mutex<[String: Model]>([:])

/// A checkpoint packed once for all tests, and bound. The file is gone from the disk at once; its mapping stays.
func packed(
    _ checkpoint: FilePath, as name: String, embedding: PackJob.Embedding = .keep
) throws -> Model {
    try packedModels.withLock { models in
        if let model = models[name] { return model }
        let path = FilePath("/tmp/mmfreed-tests-\(getpid())-\(name).gguf")
        defer { unlink(path.string) }
        _ = try PackJob(
            PackSource(directory: checkpoint), to: path, embedding: embedding, replacing: true
        ).run()
        let model = try Model(PackedFile(path: path))
        models[name] = model
        return model
    }
}
