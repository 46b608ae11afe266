// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@Suite("What a checkpoint asks for and is not done is named, never passed over")
struct CheckpointMistakesTests {
    private func json(_ text: String) throws -> JSON { try JSON(parsing: Array(text.utf8)) }

    private func config(_ members: String) throws -> CheckpointConfig {
        try CheckpointConfig(json("{\(members)}"), file: "config.json")
    }

    /// Opens a made checkpoint after `change` to its directory.
    private func warnings(
        _ made: MadeCheckpoint = MadeCheckpoint(), _ change: (FilePath) throws -> Void
    ) throws -> [String] {
        try withDirectory { directory in
            try made.write(to: directory)
            try change(directory)
            return try Checkpoint(directory: directory).warnings
        }
    }

    private func refusal(_ change: (FilePath) throws -> Void) throws -> String {
        do {
            _ = try warnings(MadeCheckpoint(), change)
        } catch let error as PackError { return error.description }
        Issue.record("accepted")
        return ""
    }

    // MARK: config.json

    @Test(
        "a member that makes another model is refused by name and value",
        arguments: [
            #""rotary_embeddings": true"#, #""rope_scaling": {"type": "linear"}"#, #""moe": true"#,
            #""sliding_window": 4096"#, #""quantization_config": {"bits": 4}"#,
            #""use_conv": true"#,
            #""attention_bias": true"#, #""final_logit_softcapping": 30.0"#,
            #""residual_multiplier": 0.5"#, #""logit_scale": NaN"#, #""norm_eps": 1e-5"#,
            #""attn": {"layers": [1]}"#, #""is_encoder_decoder": true"#,
            #""pruned_heads": {"1": [0]}"#,
        ])
    func foreign(_ member: String) throws {
        let error = #expect(throws: PackError.self) { try config(member) }
        let name = String(member.dropFirst().prefix { $0 != "\"" })
        #expect(error?.description.contains("config.json: \(name) is ") == true, "\(error!)")
    }

    @Test(
        "the same members switched off are no reason to say anything",
        arguments: [
            #""rotary_embeddings": false"#, #""rope_scaling": null"#, #""moe": false"#,
            #""sliding_window": null"#, #""quantization_config": null"#, #""pruned_heads": {}"#,
            #""residual_multiplier": 1.0"#, #""logit_scale": 1"#, #""norm_eps": 1e-6"#,
            #""hidden_act": "silu""#, #""use_cache": true"#, #""initializer_range": Infinity"#,
            #""unsloth_version": "2024.8""#, #""id2label": {"0": "x"}"#, #""temperature": 1.0"#,
        ])
    func plain(_ member: String) throws {
        #expect(try config(member).warnings == [])
    }

    @Test(
        "a member that nobody here knows is named in a warning",
        arguments: [
            (#""rope_theta": 10000.0"#, "rope_theta 10000.0"),
            (#""num_experts": 8"#, "num_experts 8"),
            (#""use_output_gate": false"#, "use_output_gate false"),
            (#""time_step_limit": [0.0, Infinity]"#, "time_step_limit [0.0,Infinity]"),
            (#""hidden_act": "gelu""#, "hidden_act is \"gelu\""),
            (#""auto_map": {"AutoModel": "modeling_x.X"}"#, "auto_map"),
            (#""temperature": 0.7"#, "temperature 0.7"),
            (#""forced_bos_token_id": 1"#, "forced_bos_token_id 1"),
            (#""no_repeat_ngram_size": 1"#, "no_repeat_ngram_size 1"),
            (#""min_length": 1"#, "min_length 1"), (#""min_p": 1.0"#, "min_p 1.0"),
            (#""do_sample": true"#, "do_sample true"),
        ])
    func unknown(_ member: String, _ said: String) throws {
        let warnings = try config(member).warnings
        #expect(warnings.count == 1 && warnings[0].contains(said), "\(warnings)")
    }

    @Test("ids below 0 and null are no token; lists keep all of theirs")
    func ids() throws {
        let none = try config(#""pad_token_id": -1, "bos_token_id": -1, "eos_token_id": null"#)
        #expect(none.padding == nil && none.bos == nil && none.ends == [])
        #expect(try config(#""eos_token_id": [2, 280, -1]"#).ends == [2, 280])
        #expect(try config(#""eos_token_id": []"#).ends == [])
        #expect(try config(#""eos_token_id": 7.0"#).ends == [7])
        #expect(try config("").ends == [2])
        for bad in [
            #""eos_token_id": "2""#, #""eos_token_id": [2, "x"]"#, #""bos_token_id": [1, 2]"#,
        ] {
            #expect(throws: PackError.self) { try config(bad) }
        }
    }

    @Test("an epsilon that no reader of the packed file takes is refused before the work")
    func epsilon() throws {
        for value in ["1.0", "0.99999999", "NaN", "Infinity", "0", "-1e-6"] {
            let error = #expect(throws: PackError.self) {
                try config(#""rms_norm_eps": \#(value)"#)
            }
            #expect(error?.description.contains("rms_norm_eps") == true)
        }
        #expect(try config(#""rms_norm_eps": 1e-5"#).shape.epsilon == 1e-5)
    }

    @Test("a type in config.json that is not the weights' is named")
    func type() throws {
        var made = MadeCheckpoint()
        made.settings = [JSON.Member("torch_dtype", .string("float16"))]
        let said = try warnings(made) { _ in }
        #expect(said.count == 1 && said[0].contains("float16") && said[0].contains("BF16"))
        made.settings = [JSON.Member("dtype", .string("torch.bfloat16"))]
        #expect(try warnings(made) { _ in } == [])
    }

    // MARK: What lies in the directory

    @Test("an adapter beside the weights is refused, for it changes them in the original code")
    func adapter() throws {
        let error = try refusal {
            try write(Array("{}".utf8), to: $0.appending("adapter_config.json"))
        }
        #expect(error.contains("adapter (LoRA)") && error.contains("merge_and_unload"))
    }

    @Test("other weights beside those that are read are named; a trainer's leavings are not")
    func others() throws {
        let said = try warnings {
            for name in [
                "pytorch_model.bin", "consolidated.00.pth", "model-00002-of-00002.safetensors",
                "adapter_model.safetensors", "optimizer.pt", "training_args.bin", "README.md",
            ] { try write([1], to: $0.appending(name)) }
            try write(Array("{}".utf8), to: $0.appending("model.safetensors.index.json"))
        }
        #expect(said.count == 2)
        #expect(
            said[0].hasSuffix(
                "adapter_model.safetensors, consolidated.00.pth, model-00002-of-00002.safetensors, pytorch_model.bin"
            ), "\(said)")
        #expect(said[1].contains("model.safetensors.index.json is not read"))
    }

    @Test("shards without their index are told what is missing")
    func shards() throws {
        let error = try refusal { directory in
            let shard = directory.appending("model-00001-of-00002.safetensors")
            try write(bytes(of: directory.appending("model.safetensors")), to: shard)
            try removeFile(directory.appending("model.safetensors"))
        }
        #expect(error.contains("model-00001-of-00002.safetensors"))
        #expect(error.contains("model.safetensors.index.json"))
    }

    @Test("a variant, a cache's root and a wrapper's names are called what they are")
    func places() throws {
        let variant = try refusal { directory in
            let place = directory.appending("model.fp16.safetensors")
            try write(bytes(of: directory.appending("model.safetensors")), to: place)
            try removeFile(directory.appending("model.safetensors"))
        }
        #expect(variant.contains("model.fp16.safetensors, a variant, but not model.safetensors"))
        let root = try refusal { directory in
            for name in ["snapshots", "blobs"] { mkdir(directory.appending(name).string, 0o700) }
            try removeFile(directory.appending("config.json"))
        }
        #expect(root.contains("root of a download cache; give a directory in"))
        for prefix in ["module.", "_orig_mod.", "base_model.model."] {
            var made = MadeCheckpoint()
            made.edit = { for place in $0.indices { $0[place].name = prefix + $0[place].name } }
            let error = #expect(throws: PackError.self) { try warnings(made) { _ in } }
            #expect(
                error?.description.contains("take the prefix \"\(prefix)\" off") == true,
                "\(error!)")
        }
        var made = MadeCheckpoint()
        made.edit = { $0[0].name = String(repeating: "x", count: 100_000) }
        let long = #expect(throws: PackError.self) { try warnings(made) { _ in } }
        #expect(long!.description.utf8.count < 1000)
    }

    @Test("matrices of several types are listed, for transformers converts before it makes trits")
    func types() throws {
        var made = MadeCheckpoint()
        made.edit = { list in
            let last = list.lastIndex { $0.name.hasSuffix("proj.weight") }!
            list[last].type = .f32
        }
        let said = try warnings(made) { _ in }
        #expect(said.contains { $0.contains("BF16 (") && $0.contains("F32 (1)") }, "\(said)")
    }

    @Test(
        "weights of a framework that transposes them are refused", arguments: ["tf", "flax", "np"])
    func framework(_ name: String) throws {
        func change(_ name: String) -> (FilePath) throws -> Void {
            { directory in
                let path = directory.appending("model.safetensors")
                var bytes = try TestSupport.bytes(of: path)
                let length = bytes[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
                var header = Array(bytes[9..<8 + length])
                header = Array(#"{"__metadata__":{"format":"\#(name)"},"#.utf8) + header
                let size = (0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) }
                bytes.replaceSubrange(..<(8 + length), with: size + header)
                try write(bytes, to: path)
            }
        }
        #expect(try refusal(change(name)).contains("its format is \"\(name)\""))
        #expect(try warnings(MadeCheckpoint(), change("pt")) == [])
    }

    @Test("tensors of nothing but zeros are named; lower bounds may be")
    func zeros() throws {
        func said(_ name: String) throws -> [String] {
            var made = MadeCheckpoint()
            made.edit = { list in
                let place = list.firstIndex { $0.name == name }!
                list[place].values = list[place].values.map { _ in 0 }
            }
            return try made.open { checkpoint in
                try withDirectory {
                    try PackJob(checkpoint, to: $0.appending("m.gguf")).run().warnings.filter {
                        $0.contains("zeros only")
                    }
                }
            }
        }
        #expect(
            try said("lm_head.weight").first?.hasPrefix("1 tensors hold zeros only, lm_head.weight")
                == true)
        #expect(try said("model.norm.weight").count == 1)
        #expect(try said("model.lower_bounds") == [])
    }

    // MARK: Files that are something else

    static let lfs =
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 748000000\n"
    static let files = [
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer.model",
        "tokenizer_config.json", "generation_config.json", "special_tokens_map.json",
        "added_tokens.json",
    ]

    @Test(
        "what stands in a file's place is told by what it is",
        arguments: [
            (Array(lfs.utf8), "Git LFS pointer"),
            (Array("\u{feff}\n<!DOCTYPE HTML><html>Sign in</html>".utf8), "web page"),
            (Array("<?xml version='1.0'?><Error>AccessDenied</Error>".utf8), "web page"),
            ([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3], "gzip"),
            (Array("PK\u{3}\u{4}....".utf8), "pickle"),
            ([0x80, 0x02, 0x8a, 0x0a], "pickle"), ([0xff, 0xfe, 0x7b, 0], "UTF-16"),
            ([UInt8](repeating: 0, count: 5000), "zeros"), (Array("GGUF....".utf8), "GGUF"),
            ([], "empty"),
        ])
    func instead(_ contents: [UInt8], _ said: String) throws {
        for name in Self.files {
            let error = try refusal { directory in
                let place = directory.appending(name)
                if name == "tokenizer.json" || name == "tokenizer.model" {
                    try? removeFile(directory.appending("tokenizer.json"))
                }
                try? removeFile(place)
                try write(contents, to: place)
                // The tokenizer's files are read by the packing itself.
                _ = try TokenizerImport(Checkpoint(directory: directory))
            }
            #expect(error.contains(name) && error.contains(said), "\(name): \(error)")
        }
        guard said != "GGUF" else { return }
        let error = #expect(throws: StoreError.self) {
            try withDirectory { directory in
                try write(contents, to: directory.appending("m.gguf"))
                _ = try PackedFile(path: directory.appending("m.gguf"))
            }
        }
        #expect(said == "empty" || error?.description.contains(said) == true, "\(error!)")
    }

    @Test("a server's message in place of the weights is quoted")
    func message() throws {
        let error = try refusal {
            try write(
                Array("Entry not found\n".utf8), to: $0.appending("model.safetensors"))
        }
        #expect(error.contains("a text that begins \"Entry not found\""))
    }

    // MARK: JSON

    @Test("what Python writes beyond JSON is read, and refused where it is used")
    func python() throws {
        let value = try json("\u{feff}[NaN, Infinity, -Infinity, 1e999, -1e999]")
        let numbers = value.array?.compactMap(\.number) ?? []
        #expect(numbers.count == 5 && numbers[0].isNaN)
        #expect(numbers.dropFirst() == [.infinity, -.infinity, .infinity, -.infinity])
        #expect(value.array?.compactMap(\.integer) == [])
        let error = #expect(throws: PackError.self) { try config(#""hidden_size": Infinity"#) }
        #expect(error?.description.contains("hidden_size is Infinity") == true)
    }

    @Test("what is not JSON is told by what it is")
    func notJSON() throws {
        for (text, said) in [
            ("{\"a\": 1, // x\n}", "a comment"), ("{\"a\": 'x'}", "single quotes"),
            ("{\"a\": 1,}", "name is missing"), ("{\"a\": 1, \"a\": 2}", "comes twice"),
            ("[1,]", "a comma too many"), ("{\"a\": None}", "not a JSON value: None}"),
        ] {
            let error = #expect(throws: JSONError.self) { try json(text) }
            #expect(error?.what.contains(said) == true, "\(error!)")
        }
    }
}
