// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@Suite("Packing keeps every value and gives the same bytes every time")
struct PackJobTests {
    @Test(
        "trits, scales, norms and embeddings of the golden checkpoints arrive",
        arguments: Golden.models)
    func goldens(_ name: String) throws {
        let golden = try Golden(name)
        let checkpoint = try golden.checkpoint()
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            let report = try PackJob(checkpoint, to: path).run()
            let file = try PackedFile(path: path)
            try file.verify()
            for role in checkpoint.config.roles {
                let info = try #require(file[role.packedName])
                let tensor = try checkpoint.tensor(named: role.name)
                switch role.kind {
                case .vector:
                    #expect(info.shape == role.shape)
                    #expect(try floats(file, role.packedName) == tensor.floats())
                case .embedding:
                    #expect(Array(file.bytes(of: info)) == tensor.withBytes { Array($0) })
                case .dense: Issue.record("HGRNBit has no dense head")
                case .ternary:
                    let matrix = try #require(file.packed[role.packedName])
                    #expect([matrix.rows, matrix.columns] == role.shape)
                    var trits = [Int8](repeating: 9, count: role.count)
                    ck_unpack(
                        file.pointer(to: info).assumingMemoryBound(to: UInt8.self), matrix.rows,
                        matrix.columns, &trits)
                    #expect(try trits == golden.trits(role.name))
                    #expect(
                        try abs(matrix.scale / golden.values("scale." + role.name)[0] - 1) < 1e-6)
                    #expect(info.offset >= 2 << 20)
                }
            }
            let table = try floats(file, "lower_bound_table.weight")
            let wanted = try golden.values("lower_bounds")
            #expect(zip(table, wanted).allSatisfy { abs($0 - $1) < 1e-6 })
            #expect(table.count == wanted.count)
            #expect(report.fileBytes == file.byteCount && report.digest == file.modelDigest)
            #expect(report.matrices == golden.ternaryNames.count)
            #expect(report.alreadyTernary == (name == "i_prequant_bf16" ? report.matrices : 0))
            #expect(report.tokenizer == nil && report.warnings.count == 1)
            #expect(report.warnings[0].hasPrefix("there is no tokenizer: eos_token_id ("))
        }
    }

    private func floats(_ file: PackedFile, _ name: String) throws -> [Float] {
        let info = try #require(file[name])
        #expect(info.type == .f32)
        return (0..<info.byteCount / 4).map {
            file.pointer(to: info).load(fromByteOffset: 4 * $0, as: Float.self)
        }
    }

    @Test("a copy that is already ternary packs to the original's trits and scales")
    func alreadyTernary() throws {
        try withDirectory { directory in
            let files = try ["b_bf16", "i_prequant_bf16"].map { name in
                let path = directory.appending(name + ".gguf")
                _ = try PackJob(Golden(name).checkpoint(), to: path, name: "same").run()
                return try bytes(of: path)
            }
            #expect(files[0] == files[1])
        }
    }

    @Test(
        "the same checkpoint packs to the same bytes on any number of cores",
        arguments: zip([PackJob.Embedding.keep, .q6], [ElementType.f32, .bf16]))
    func reproducible(_ embedding: PackJob.Embedding, _ type: ElementType) throws {
        var made = MadeCheckpoint()
        made.type = type
        // The head is scanned and packed in three pieces: 2^18 weights, or 1632 such rows, are one.
        (made.hidden, made.intermediate, made.vocabulary, made.layers) = (160, 333, 4200, 1)
        try made.open { checkpoint in
            try withDirectory { directory in
                let files = try [1, 2, 3].map { workers in
                    let path = directory.appending("\(workers).gguf")
                    let job = PackJob(
                        checkpoint, to: path, embedding: embedding,
                        parallel: Parallel(workers: workers))
                    _ = try job.run()
                    return try bytes(of: path)
                }
                #expect(files[0] == files[1] && files[0] == files[2])
            }
        }
    }

    @Test("q6 makes the embedding smaller at an error of about one per cent, and says so")
    func q6() throws {
        var made = MadeCheckpoint()
        (made.hidden, made.vocabulary, made.layers) = (256, 256, 1)
        try made.open { checkpoint in
            try withDirectory { directory in
                let keep = try PackJob(checkpoint, to: directory.appending("k.gguf")).run()
                let q6 = try PackJob(
                    checkpoint, to: directory.appending("q.gguf"), embedding: .q6
                ).run()
                #expect(keep.embedding == "bf16" && keep.embeddingError == 0)
                #expect(keep.embeddingBytes == 256 * 256 * 2)
                #expect(q6.embedding == "q6" && q6.embeddingBytes == 256 * 256 / 64 * 52)
                #expect((0.001...0.03).contains(q6.embeddingError))
                #expect(q6.fileBytes < keep.fileBytes)
                #expect(q6.ternaryBytes == keep.ternaryBytes && q6.zeros == keep.zeros)
            }
        }
    }

    @Test("a value that q6 cannot hold is refused by its row; keeping the embedding holds it")
    func tooLarge() throws {
        for (value, fits) in [(Float(65504 * 31), true), (65504 * 31 + 1, false), (-3e6, false)] {
            var made = MadeCheckpoint()
            (made.hidden, made.vocabulary, made.layers, made.type) = (64, 8, 1, .f32)
            made.edit = { list in
                for k in 0..<list.count where list[k].name == "model.embeddings.weight" {
                    list[k].values[64 * 5 + 7] = value
                }
            }
            try made.open { checkpoint in
                try withDirectory { directory in
                    let job = PackJob(
                        checkpoint, to: directory.appending("q.gguf"), embedding: .q6)
                    if fits {
                        _ = try job.run()
                    } else {
                        let error = #expect(throws: PackError.self) { try job.run() }
                        #expect(
                            error?.description.contains("row 5 holds a value of magnitude") == true)
                        try expectNames([], in: directory)
                    }
                    _ = try PackJob(checkpoint, to: directory.appending("k.gguf")).run()
                }
            }
        }
    }

    @Test("the report counts weights, zeros and bytes")
    func report() throws {
        var made = MadeCheckpoint()
        (made.hidden, made.intermediate, made.vocabulary) = (80, 160, 320)
        try made.open { checkpoint in
            try withDirectory { directory in
                let report = try PackJob(checkpoint, to: directory.appending("m.gguf")).run()
                let ternary = 2 * (4 * 80 * 80 + 3 * 160 * 80) + 320 * 80
                #expect(report.ternaryWeights == ternary)
                #expect(report.bitsPerTernaryWeight == 1.6)
                #expect(report.weights == checkpoint.parameterCount)
                #expect(
                    report.zeros.map(\.kind) == [
                        "attn_i", "attn_f", "attn_g", "attn_output", "ffn_gate_up", "ffn_down",
                        "output",
                    ])
                #expect(report.zeros.reduce(0) { $0 + $1.weights } == ternary)
                // Half of a normal distribution's mean magnitude holds 31 % of it.
                #expect(report.zeros.allSatisfy { (0.28...0.34).contains($0.fraction) })
            }
        }
    }

    @Test("mixtures and matrices scaled by row are warned of")
    func warnings() throws {
        var made = MadeCheckpoint()
        made.edit = { list in
            for k in 0..<list.count where list[k].name == "model.layers.0.attn.i_proj.weight" {
                list[k].values = list[k].values.map { $0 > 0 ? 0.5 : -0.5 }
            }
            for k in 0..<list.count where list[k].name == "model.layers.1.attn.f_proj.weight" {
                list[k].values = list[k].values.enumerated().map {
                    ($1 > 0 ? 0.5 : 0) * Float(1 + $0 / 32)
                }
            }
        }
        try made.open { checkpoint in
            try withDirectory { directory in
                let report = try PackJob(checkpoint, to: directory.appending("m.gguf")).run()
                #expect(report.alreadyTernary == 1)
                #expect(report.warnings.contains { $0.contains("half-way") })
                #expect(report.warnings.contains { $0.contains("layers.1.attn.f_proj") })
            }
        }
    }

    @Test(
        "a bad weight anywhere stops it, named, and leaves nothing",
        arguments: [
            "model.embeddings.weight", "model.norm.weight", "model.lower_bounds",
            "model.layers.1.mlp.down_proj.weight", "lm_head.weight",
        ])
    func badWeight(_ name: String) throws {
        for embedding in PackJob.Embedding.allCases {
            var made = MadeCheckpoint()
            made.edit = { list in
                for k in 0..<list.count where list[k].name == name { list[k].values[5] = .infinity }
            }
            try made.open { checkpoint in
                try withDirectory { directory in
                    let job = PackJob(
                        checkpoint, to: directory.appending("m.gguf"), embedding: embedding)
                    let error = #expect(throws: PackError.self) { try job.run() }
                    #expect(error == .notFinite(tensor: name, index: 5, value: "inf"))
                    try expectNames([], in: directory)
                }
            }
        }
    }

    @Test("cancelled at any point, it leaves nothing")
    func cancelled() throws {
        try MadeCheckpoint().open { checkpoint in
            try withDirectory { directory in
                let path = directory.appending("m.gguf")
                var calls = 0
                _ = try PackJob(checkpoint, to: path).run(progress: { _ in calls += 1 })
                try removeFile(path)
                for stop in stride(from: 0, to: calls + 1, by: 5) {
                    var count = 0
                    #expect(throws: PackError.cancelled) {
                        try PackJob(checkpoint, to: path).run(isCancelled: {
                            count += 1
                            return count > stop
                        })
                    }
                    try expectNames([], in: directory)
                }
            }
        }
    }

    @Test("progress grows from nothing to almost all")
    func progress() throws {
        try MadeCheckpoint().open { checkpoint in
            try withDirectory { directory in
                var steps: [PackJob.Progress] = []
                let job = PackJob(checkpoint, to: directory.appending("m.gguf"))
                _ = try job.run(progress: { steps.append($0) })
                #expect(steps.first?.done == 0)
                #expect(zip(steps, steps.dropFirst()).allSatisfy { $0.done <= $1.done })
                #expect(steps.allSatisfy { $0.done < $0.total && $0.total == checkpoint.byteCount })
            }
        }
    }

    @Test("an existing file is replaced only if that is asked for")
    func existing() throws {
        try MadeCheckpoint().open { checkpoint in
            try withDirectory { directory in
                let path = directory.appending("m.gguf")
                try write([1, 2, 3], to: path)
                #expect(throws: PackError.store(.exists(path))) {
                    try PackJob(checkpoint, to: path).run()
                }
                let untouched = try bytes(of: path)
                #expect(untouched == [1, 2, 3])
                _ = try PackJob(checkpoint, to: path, replacing: true).run()
                try PackedFile(path: path).verify()
            }
        }
    }

    @Test(
        "names hold nothing that could surprise a terminal or a path",
        arguments: [
            ("a/b/ridger MMfree\u{1b}[31m-370M", "ridger-MMfree--31m-370M"), ("..", "fallback"),
            ("", "fallback"), ("ünï", "-n-"),
        ])
    func naming(wish: String, expected: String) throws {
        var made = MadeCheckpoint()
        made.settings = [JSON.Member("_name_or_path", .string("x/fallback"))]
        try made.open { checkpoint in
            try withDirectory { directory in
                let path = directory.appending("m.gguf")
                let report = try PackJob(checkpoint, to: path, name: wish).run()
                #expect(report.name == expected)
                let metadata = try PackedFile(path: path).metadata
                let found = try metadata.string(forKey: FormatKeys.name)
                #expect(found == expected)
            }
        }
    }
}
