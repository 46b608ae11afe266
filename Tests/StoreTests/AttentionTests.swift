// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import Reference
import SystemPackage
import TestSupport
import Testing

/// transformers 5.24 on torch 2.13, float32: models/bitnet, models/llama, and models/qwen3 with ternary products.
@Suite("Models with attention equal what the authors' code computes")
struct AttentionTests {
    @Test("trits are equal; scales too where they are stored", arguments: AttentionGolden.models)
    func matrices(_ name: String) throws {
        #expect(try AttentionGolden(name).matrixFaults() == [])
    }

    @Test(
        "hidden states, caches, logits, greedy tokens and vectors are within rounding of theirs",
        arguments: AttentionGolden.models)
    func forward(_ name: String) throws {
        let golden = try AttentionGolden(name)
        #expect(
            try golden.forwardFaults(.checkpoint(golden.checkpoint, masters: nil)) == [])
    }

    @Test("so are those of the packed file", arguments: AttentionGolden.models)
    func packed(_ name: String) throws {
        let golden = try AttentionGolden(name)
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            _ = try PackJob(
                PackSource(directory: golden.golden.directory), to: path
            ).run()
            let file = try PackedFile(path: path)
            try file.verify()
            let attention = try AttentionFile(file)
            #expect(attention.shape == golden.checkpoint.config.shape)
            #expect(try golden.forwardFaults(.packed(attention)) == [])
        }
    }

    @Test("packed twice it is the same bytes, on one thread as on three")
    func deterministic() throws {
        let source = AttentionGolden.root.appending("bn_odd_packed")
        try withDirectory { directory in
            func pack(_ name: String, workers: Int) throws -> [UInt8] {
                let path = directory.appending(name)
                _ = try PackJob(
                    PackSource(directory: source), to: path,
                    parallel: Parallel(workers: workers)
                ).run()
                return try bytes(of: path)
            }
            let (one, three) = (try pack("a", workers: 1), try pack("b", workers: 3))
            #expect(one == three)
        }
    }

    @Test(
        "unpacked and packed again it has the same trits and scales",
        arguments: AttentionGolden.models)
    func unpacked(_ name: String) throws {
        try withDirectory { directory in
            let (first, second) = (directory.appending("a.gguf"), directory.appending("b.gguf"))
            _ = try PackJob(
                PackSource(directory: AttentionGolden.root.appending(name)), to: first
            ).run()
            let before = try PackedFile(path: first)
            try UnpackJob(before, to: directory.appending("out")).run()
            _ = try PackJob(
                PackSource(directory: directory.appending("out"), masters: .keep), to: second
            ).run()
            let after = try PackedFile(path: second)
            #expect(before.tensors.map(\.name) == after.tensors.map(\.name))
            for tensor in before.tensors {
                #expect(before.digest(of: tensor.name) == after.digest(of: tensor.name))
                #expect(before.packed[tensor.name]?.scale == after.packed[tensor.name]?.scale)
            }
        }
    }

    // MARK: - Units

    private func file(_ folder: String, _ name: String) throws -> SafetensorsFile {
        try SafetensorsFile(path: AttentionGolden.root.appending(folder).appending(name))
    }

    private func floats(_ file: SafetensorsFile, _ name: String) throws -> [Float] {
        let entry = try #require(file[name])
        return try CheckpointTensor(entry, in: file).floats()
    }

    private func bytes8(_ file: SafetensorsFile, _ name: String) throws -> [Int8] {
        let entry = try #require(file[name])
        return file.withBytes(of: entry) { $0.map { Int8(bitPattern: $0) } }
    }

    @Test("activations round half to even, by a factor of two roundings, bit for bit")
    func quantiser() throws {
        let file = try file("act_quant_even", "act_quant.safetensors")
        let (y, scales) = (try floats(file, "y"), try floats(file, "scale"))
        let wanted = try bytes8(file, "q")
        let width = y.count / scales.count
        #expect(scales.count == 32)
        for (row, scale) in scales.enumerated() {
            let found = QuantisedRow(Array(y[row * width..<(row + 1) * width]))
            #expect(found.scale.bitPattern == scale.bitPattern)
            #expect(found.values == Array(wanted[row * width..<(row + 1) * width]))
        }
    }

    @Test("the rotation's frequencies are within an ulp, its angles float32 products")
    func rotation() throws {
        let file = try file("rope", "rope.safetensors")
        let facts = try parse(AttentionGolden.root.appending("rope").appending("rope.json"))
        let positions = try #require(facts["positions"]?.array).compactMap(\.integer)
        for member in try #require(facts["cases"]?.members) {
            let numbers = try #require(member.value.array).compactMap(\.number)
            let rotation = Rotation(theta: Float(numbers[0]), headSize: Int(numbers[1]))
            let wanted = try floats(file, "inv_freq." + member.name)
            let cosines = try floats(file, "cos." + member.name)
            let sines = try floats(file, "sin." + member.name)
            for (a, b) in zip(rotation.frequencies, wanted) {
                #expect(abs(Int(a.bitPattern) - Int(b.bitPattern)) <= 1)
            }
            let exact = zip(rotation.frequencies, wanted).map { $0 == $1 }
            for (row, position) in positions.enumerated() {
                let (c, s) = rotation.table(position)
                for i in 0..<wanted.count where exact[i] {
                    #expect(abs(c[i] - cosines[row * wanted.count + i]) <= 2e-7)
                    #expect(abs(s[i] - sines[row * wanted.count + i]) <= 2e-7)
                }
            }
        }
    }

    @Test("float masters of any type become trits in float32")
    func masters() throws {
        let weights = try file("masters", "weights.safetensors")
        let expected = try file("masters", "expected.safetensors")
        for entry in weights.entries {
            let tensor = CheckpointTensor(entry, in: weights)
            let ternariser = Ternariser()
            // "ternary_…" hold what transformers computes of masters that are ternary.
            let rule = try ternariser.masterRule(for: tensor, .recompute)
            let trits = ternariser.trits(of: tensor, rule)
            #expect(try trits == bytes8(expected, "trits." + entry.name), "\(entry.name)")
            let scale = try floats(expected, "scale." + entry.name)[0]
            if trits.contains(where: { $0 != 0 }) {
                #expect(abs(rule.scale / scale - 1) <= 1e-6, "\(entry.name)")
            }
        }
    }

    @Test("masters that are ternary already keep their magnitude, or get the mean, as told")
    func ternaryMasters() throws {
        let source = AttentionGolden.root.appending("refuse/masters_already_ternary")
        func scale(_ masters: TernaryMasters) throws -> Float {
            let checkpoint = try AttentionCheckpoint(directory: source)
            let product = checkpoint.layout.layers[0].gate
            return try checkpoint.matrix(product, masters: masters).scale
        }
        #expect(try scale(.keep) == 0.25)
        #expect(try abs(scale(.recompute) - 0.16097005) < 1e-7)
    }

    // MARK: - Refusals

    /// What each refusal must say, by the case's name; nothing of those to accept.
    private static let words: [(name: String, words: String?)] = [
        ("base_ok", nil), ("base_ok_masters", nil), ("base_ok_llama", nil),
        ("no_quantization_config", "no quantization_config"), ("other_method", "quant_method"),
        ("unknown_linear_class", "linear_class"), ("unknown_mode", "quantization_mode"),
        ("online_but_packed", "q_proj.weight: it is packed (U8)"),
        ("offline_but_masters", "weight_scale"),
        ("offline_floats_with_scale", "not all −1, 0 and 1"),
        ("no_weight_scale", "lacks tensor model.layers.0.self_attn.q_proj.weight_scale"),
        ("two_scales", "weight_scale has shape [2]"), ("zero_scale", "it is 0.0"),
        ("nan_scale", "nan"), ("negative_scale", "it is -3.0"),
        ("code_three", "byte 67 holds the code 3"), ("short_packed", "has shape [11, 32]"),
        ("unpacked_u8", "has shape [48, 32]"),
        ("masters_already_ternary", "--ternary-masters keep"),
        ("masters_nan", "element 33 is nan"), ("masters_with_scale", "whose scale is computed"),
        ("one_dense", "modules_to_not_convert"), ("bias", "q_proj.bias"),
        ("attention_bias", "attention_bias"), ("rope_scaling_llama3", "\"llama3\""),
        ("rope_parameters_yarn", "\"yarn\""), ("rope_old_key", "\"linear\""),
        ("untied_without_head", "lacks tensor lm_head.weight"), ("silu_bitnet", "hidden_act"),
        ("gelu_llama", "hidden_act"), ("kv_does_not_divide", "4 heads are no multiple of 3"),
        ("wide_heads_bitnet", "are 64 wide"), ("no_sub_norm", "attn_sub_norm"),
        ("extra_tensor", "q_proj.rms_norm.weight"), ("odd_head_dim", "7 wide"),
    ]

    @Test(
        "what is ambiguous, broken or another model is refused by name, and leaves nothing",
        arguments: words.map(\.name))
    func refusals(_ name: String) throws {
        let words = Self.words.first { $0.name == name }?.words
        try withDirectory { directory in
            do {
                _ = try PackJob(
                    PackSource(
                        directory: AttentionGolden.root.appending("refuse").appending(name)),
                    to: directory.appending("m.gguf")
                ).run()
                #expect(words == nil, "accepted")
            } catch let error as PackError {
                let words = try #require(words, "\(error)")
                #expect(error.description.contains(words), "\(error)")
                #expect(names(in: directory) == [])
            }
        }
    }

    @Test("all cases of refusals are asked")
    func complete() throws {
        let cases = try parse(AttentionGolden.root.appending("refuse").appending("cases.json"))
        #expect(
            Set(Self.words.map(\.name)) == Set(try #require(cases.members).map(\.name)))
    }
}
