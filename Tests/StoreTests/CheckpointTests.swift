// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@Suite("A checkpoint is opened only if it is a whole HGRNBit model")
struct CheckpointTests {
    private func member(_ name: String, _ value: JSON) -> JSON.Member { JSON.Member(name, value) }

    @Test("random small checkpoints of every legal kind open")
    func legal() throws {
        var random = SeededGenerator(5)
        for seed in 0..<UInt64(24) {
            var made = MadeCheckpoint()
            made.seed = seed
            made.vocabulary = 1 + Int(random.next() % 90)
            made.hidden = 4 * (1 + Int(random.next() % 20))
            made.layers = 1 + Int(random.next() % 3)
            made.intermediate = 1 + Int(random.next() % 90)
            made.bound = random.next() % 2 == 0
            made.expand = made.bound ? 1 : [0.5, 1, 1.5, 2][Int(random.next() % 4)]
            made.tied = random.next() % 3 == 0
            made.type = [.f32, .f16, .bf16][Int(random.next() % 3)]
            try made.open { checkpoint in
                #expect(checkpoint.config.shape.intermediate == made.intermediate)
                #expect(checkpoint.config.shape.inner == Int(Double(made.hidden) * made.expand))
                let head = try checkpoint.tensor(named: "lm_head.weight")
                #expect(head.type == made.type)
            }
        }
    }

    @Test("absent settings have the original code's defaults")
    func defaults() throws {
        let config = try CheckpointConfig(.object([]), file: "config.json")
        #expect(config == CheckpointConfig())
        #expect(config.roles.count == 365)
        #expect(
            config.roles.filter { $0.kind == .ternary }.reduce(0) { $0 + $1.count } == 1_298_661_376
        )
    }

    @Test(
        "an intermediate size left null follows from the hidden size",
        arguments: [
            (1024, 2816), (2048, 5632), (2560, 6912), (256, 768), (64, 256),
        ])
    func intermediate(hidden: Int, wanted: Int) throws {
        let json = JSON.object([
            member("hidden_size", .integer(hidden)), member("intermediate_size", .null),
        ])
        #expect(try CheckpointConfig(json, file: "config.json").shape.intermediate == wanted)
    }

    @Test(
        "settings we cannot follow are refused by name",
        arguments: [
            ("use_short_conv", JSON.bool(true), "use_short_conv"),
            ("model_type", .string("llama"), "llama"),
            ("architectures", .array([.string("LlamaForCausalLM")]), "LlamaForCausalLM"),
            ("attn_mode", .string("chunk"), "attn_mode"),
            ("expand_ratio", .integer(2), "expand_ratio"),
            ("num_heads", .integer(5), "num_heads"),
            ("hidden_size", .integer(0), "hidden_size"),
            ("hidden_size", .string("64"), "hidden_size"),
            ("hidden_size", .integer(1 << 40), "hidden_size"),
            ("vocab_size", .integer(Int.max), "vocab_size"),
            ("num_hidden_layers", .integer(-1), "num_hidden_layers"),
            ("rms_norm_eps", .integer(0), "rms_norm_eps"),
            ("expand_ratio", .number(1e300), "expand_ratio"),
            ("use_lower_bound", .integer(1), "use_lower_bound"),
            ("bos_token_id", .string("<s>"), "bos_token_id"),
        ])
    func unsupported(name: String, value: JSON, mentioned: String) throws {
        var made = MadeCheckpoint()
        made.settings = [member(name, value)]
        let error = try #require(try made.refusal())
        #expect(error.description.contains(mentioned))
        #expect(error.description.contains("config.json"))
    }

    @Test("missing, extra, misshapen and mistyped tensors are named")
    func tensors() throws {
        var made = MadeCheckpoint()
        made.edit = { list in
            list.removeAll { $0.name.hasSuffix("attn.i_proj.weight") }
        }
        #expect(
            try made.refusal()
                == .missingTensors([
                    "model.layers.0.attn.i_proj.weight", "model.layers.1.attn.i_proj.weight",
                ]))
        made.edit = { $0.append(("model.layers.0.attn.q_proj.weight", .f32, [1], [0])) }
        #expect(try made.refusal() == .unexpectedTensors(["model.layers.0.attn.q_proj.weight"]))
        made.edit = { list in
            for k in 0..<list.count where list[k].name == "model.norm.weight" {
                list[k].shape = [2, 16]
            }
        }
        #expect(
            try made.refusal()
                == .wrongShape(tensor: "model.norm.weight", expected: [32], found: [2, 16]))
        made.edit = { _ in }
        made.bound = false
        made.settings = [member("use_lower_bound", .bool(true))]
        #expect(try made.refusal() == .missingTensors(["model.lower_bounds"]))
        made.bound = true
        made.settings = [member("use_lower_bound", .bool(false))]
        #expect(try made.refusal() == .unexpectedTensors(["model.lower_bounds"]))
    }

    @Test("a tied head may be stored again only if it is the embedding")
    func tied() throws {
        var made = MadeCheckpoint()
        made.tied = true
        #expect(try made.refusal() == nil)
        made.edit = { list in
            let embedding = list.first { $0.name == "model.embeddings.weight" }!
            list.append(("lm_head.weight", embedding.type, embedding.shape, embedding.values))
        }
        #expect(try made.refusal() == nil)
        made.edit = { list in
            let embedding = list.first { $0.name == "model.embeddings.weight" }!
            list.append(
                ("lm_head.weight", embedding.type, embedding.shape, embedding.values.reversed()))
        }
        guard case .tensor("lm_head.weight", _) = try made.refusal() else {
            Issue.record("a different head was accepted")
            return
        }
    }

    @Test("a directory with a pickle only is told how to convert it")
    func pickle() throws {
        try withDirectory { directory in
            let made = MadeCheckpoint()
            try write(made.configJSON.written(), to: directory.appending("config.json"))
            try write([1], to: directory.appending("pytorch_model.bin"))
            let error = #expect(throws: PackError.self) { try Checkpoint(directory: directory) }
            #expect(error?.description.contains("safetensors first") == true)
        }
    }

    @Test(
        "an index may not lead out of the directory, nor lie",
        arguments: [
            "../model.safetensors", "/etc/passwd", "a/../../b", "", ".", "..", "none.safetensors",
        ])
    func index(_ shard: String) throws {
        try withDirectory { directory in
            let made = MadeCheckpoint()
            try made.write(to: directory)
            let inner = directory.appending("inner")
            try makeDirectory(inner)
            try write(made.configJSON.written(), to: inner.appending("config.json"))
            func index(_ shard: String) -> JSON {
                .object([
                    member(
                        "weight_map",
                        .object(made.tensors.map { member($0.name, .string(shard)) }))
                ])
            }
            let path = inner.appending("model.safetensors.index.json")
            try write(index(shard).written(), to: path)
            #expect(throws: PackError.self) { try Checkpoint(directory: inner) }
            try write(safetensors(made.tensors), to: inner.appending("x.safetensors"))
            try write(index("x.safetensors").written(), to: path)
            #expect(throws: Never.self) { try Checkpoint(directory: inner) }
        }
    }

    @Test("reading through a checkpoint does not keep it in memory")
    func released() throws {
        // Thirty-two tensors of 1 MiB; what is resident after each is let go stays far below the sum.
        let size = 1 << 18
        let tensors = (0..<32).map { index -> TensorSpec in
            ("t\(index)", .f32, [size], [Float](repeating: Float(index) + 1, count: size))
        }
        try withTensors(tensors) { file in
            for entry in file.entries {
                let tensor = CheckpointTensor(entry, in: file)
                #expect(try Ternariser().rule(for: tensor).alreadyTernary)
                tensor.release()
            }
            let resident = try residentBytes(of: file.path.string)
            #expect(resident < 8 << 20)
        }
    }

    /// Bytes of a file that this process has in its page tables. Of this one: other tests map files meanwhile.
    private func residentBytes(of path: String) throws -> Int {
        let lines = String(decoding: try bytes(of: "/proc/self/smaps"), as: UTF8.self)
            .split(separator: "\n")
        var (isOurs, found, sum) = (false, false, 0)
        for line in lines {
            if line.contains("-"), line.first?.isHexDigit == true {
                isOurs = line.hasSuffix(path)
                found = found || isOurs
            } else if isOurs, line.hasPrefix("Rss:") {
                sum += Int(line.split(separator: " ").compactMap { Int($0) }.first ?? 0) * 1024
            }
        }
        try #require(found)
        return sum
    }
}
