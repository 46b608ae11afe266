// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import TestSupport
import Testing

@Suite("A packed model with one thing wrong is not unpacked, and nothing is left")
struct UnpackRefusalTests {
    struct Spoilt: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let words: String
        let spoil: @Sendable (inout WholeModel) -> Void

        init(
            _ claim: String, _ words: String,
            _ spoil: @escaping @Sendable (inout WholeModel) -> Void
        ) {
            (testDescription, self.words, self.spoil) = (claim, words, spoil)
        }

        /// A fact of another value, or `nil` for none.
        static func fact(_ key: String, _ value: MetadataValue?, _ words: String) -> Spoilt {
            Spoilt("\(key) \(value.map { "\($0)" } ?? "missing")", words) { $0.set(key, value) }
        }
    }

    static let wrongFacts: [Spoilt] = [
        .fact(
            FormatKeys.vocabularySize, .uint32(0),
            "vocab_size is 0; it must be a whole number from 1 to 4194304"),
        .fact(
            FormatKeys.vocabularySize, .uint32(.max),
            "vocab_size is 4294967295; it must be a whole number from 1 to 4194304"),
        .fact(
            FormatKeys.vocabularySize, .bool(true),
            "the key hgrnbit.vocab_size holds bool, not uint32"),
        .fact(FormatKeys.vocabularySize, nil, "the key hgrnbit.vocab_size is missing"),
        .fact(
            FormatKeys.embeddingLength, .uint32(17),
            "blk.0.attn_i.weight has shape [16, 16]; config.json asks for [16, 17]"),
        .fact(
            FormatKeys.embeddingLength, .uint32(0),
            "hidden_size is 0; it must be a whole number from 1 to 65536"),
        .fact(
            FormatKeys.embeddingLength, .uint32(.max),
            "hidden_size is 4294967295; it must be a whole number from 1 to 65536"),
        .fact(
            FormatKeys.blockCount, .uint32(0),
            "num_hidden_layers is 0; it must be a whole number from 1 to 1024"),
        .fact(FormatKeys.blockCount, .uint32(2), "the checkpoint lacks tensor blk.1.attn_i.weight"),
        .fact(
            FormatKeys.blockCount, .uint32(.max),
            "num_hidden_layers is 4294967295; it must be a whole number from 1 to 1024"),
        .fact(
            FormatKeys.feedForwardLength, .uint32(0),
            "intermediate_size is 0; it must be a whole number from 1 to 1048576"),
        .fact(
            FormatKeys.feedForwardLength, .uint32(21),
            "blk.0.ffn_gate_up.weight has shape [40, 16]; config.json asks for [42, 16]"),
        .fact(
            FormatKeys.feedForwardLength, .uint32(.max),
            "intermediate_size is 4294967295; it must be a whole number from 1 to 1048576"),
        .fact(
            FormatKeys.innerLength, .uint32(0),
            "expand_ratio is 0.0; it must be a number from 0.001 to 64.0"),
        .fact(
            FormatKeys.innerLength, .uint32(32),
            "blk.0.attn_i.weight has shape [16, 16]; config.json asks for [32, 16]"),
        .fact(
            FormatKeys.innerLength, .uint32(.max),
            "expand_ratio is 268435455.9375; it must be a number from 0.001 to 64.0"),
        .fact(
            FormatKeys.headCount, .uint32(0),
            "num_heads is 0; it must be a whole number from 1 to 65536"),
        .fact(
            FormatKeys.headCount, .uint32(3),
            "the packed file: hidden_size 16 is not divisible by num_heads 3"),
        .fact(
            FormatKeys.contextLength, .uint32(0),
            "max_position_embeddings is 0; it must be a whole number from 1 to 2147483647"),
        .fact(
            FormatKeys.rmsEpsilon, .float(.nan),
            "hgrnbit.attention.layer_norm_rms_epsilon: it is nan"),
        .fact(
            FormatKeys.rmsEpsilon, .float(0),
            "rms_norm_eps is 0.0; it must be a number from 1e-12 to 1.0"),
        .fact(
            FormatKeys.rmsEpsilon, .float(-1),
            "rms_norm_eps is -1.0; it must be a number from 1e-12 to 1.0"),
        .fact(
            FormatKeys.useLowerBound, .bool(true), "the checkpoint lacks tensor lower_bounds.weight"
        ),
        .fact(FormatKeys.useLowerBound, nil, "the key hgrnbit.use_lower_bound is missing"),
        .fact(
            FormatKeys.embeddingEncoding, .string("q6"),
            "token_embd.weight: it is 128 bytes of bf16, not 208 of i8"),
        .fact(
            FormatKeys.embeddingEncoding, .string("f32"),
            "token_embd.weight: it is 128 bytes of bf16, not 256 of f32"),
        .fact(
            FormatKeys.embeddingEncoding, .string("?"), "token_embd.weight: its encoding is \"?\""),
        .fact(FormatKeys.name, .uint32(1), "the key general.name holds uint32, not string"),
    ]

    static let wrongTokenizers: [Spoilt] = [
        .fact(
            FormatKeys.tokens, .strings(["a"]),
            "tokenizer.ggml.tokens has 1 values, tokenizer.ggml.token_type has 4"),
        .fact(
            FormatKeys.tokens, .strings(["<unk>", "a", "b", "ab", "c"]),
            "tokenizer.ggml.tokens has 5 values, tokenizer.ggml.token_type has 4"),
        .fact(FormatKeys.tokens, nil, "the key tokenizer.ggml.tokens is missing"),
        .fact(
            FormatKeys.scores, .floats([0]),
            "tokenizer.ggml.scores has 1 values, tokenizer.ggml.token_type has 4"),
        .fact(
            FormatKeys.scores, .floats([0, 0, 0, 0, 0]),
            "the key tokenizer.ggml.scores holds 5 numbers; at most 4 fit"),
        .fact(
            FormatKeys.tokenTypes, .int32s([2, 1, 1, 7]),
            "token 3 is of type 7, which is unknown"),
        .fact(
            FormatKeys.tokenTypes, .int32s([2, 1, 1]),
            "tokenizer.ggml.tokens has 4 values, tokenizer.ggml.token_type has 3"),
        .fact(
            FormatKeys.merges, .uint32s([1, 2, 4, 0]),
            "merge 0 (1 and 2 to 4) names a token that is not there; there are 4"),
        .fact(
            FormatKeys.unknownToken, .uint32(4),
            "its unknown token is 4; there are 4"),
        .fact(
            FormatKeys.addBOS, .uint32(1),
            "the key tokenizer.ggml.add_bos_token holds uint32, not bool"),
    ]

    static let wrongTensors: [Spoilt] = [
        Spoilt("no head", "the checkpoint lacks tensor output.weight") {
            $0.put(nil, for: "output.weight")
        },
        Spoilt("no norm", "the checkpoint lacks tensor output_norm.weight") {
            $0.put(nil, for: "output_norm.weight")
        },
        Spoilt("no embedding", "the checkpoint lacks tensor token_embd.weight") {
            $0.put(nil, for: "token_embd.weight")
        },
        Spoilt(
            "a head of other rows", "output.weight has shape [5, 16]; config.json asks for [4, 16]"
        ) {
            $0.put(
                TensorPlan(packed: "output.weight", rows: 5, columns: 16, sourceType: "BF16"),
                for: "output.weight")
        },
        Spoilt("a head that is not packed", "the checkpoint lacks tensor output.weight") {
            $0.put(TensorPlan(name: "output.weight", type: .i8, shape: [64]), for: "output.weight")
        },
        Spoilt(
            "a head from a type that is none",
            "output.weight has type I8; F32, F16 and BF16 are read"
        ) {
            $0.put(
                TensorPlan(packed: "output.weight", rows: 4, columns: 16, sourceType: "I8"),
                for: "output.weight")
        },
        Spoilt(
            "a norm of another length", "output_norm.weight: it is 60 bytes of f32, not 64 of f32"
        ) {
            $0.put(
                TensorPlan(name: "output_norm.weight", type: .f32, shape: [15]),
                for: "output_norm.weight")
        },
        Spoilt("a norm of another type", "output_norm.weight: it is 64 bytes of i32, not 64 of f32")
        {
            $0.put(
                TensorPlan(name: "output_norm.weight", type: .i32, shape: [16]),
                for: "output_norm.weight")
        },
        Spoilt(
            "an embedding of another type",
            "token_embd.weight: it is 128 bytes of f16, not 128 of bf16"
        ) {
            $0.put(
                TensorPlan(name: "token_embd.weight", type: .f16, shape: [4, 16]),
                for: "token_embd.weight")
        },
        Spoilt("a byte that is not five trits", "output.weight: it holds a byte that is no code") {
            for place in $0.tensors.indices where $0.tensors[place].plan.name == "output.weight" {
                $0.tensors[place].bytes[20] = 243
            }
        },
    ]

    @Test("as it stands, the model that is spoilt below is unpacked")
    func sound() throws { try Self.whole.get().unpack() }

    @Test("its facts", arguments: wrongFacts)
    func facts(_ spoilt: Spoilt) throws { try refused(spoilt) }

    @Test("its tokenizer", arguments: wrongTokenizers)
    func tokenizers(_ spoilt: Spoilt) throws { try refused(spoilt) }

    @Test("its tensors", arguments: wrongTensors)
    func tensors(_ spoilt: Spoilt) throws { try refused(spoilt) }

    @Test("any two of these things at once")
    func pairs() throws {
        var random = SeededGenerator(33)
        let all = Self.wrongFacts + Self.wrongTokenizers + Self.wrongTensors
        for _ in 0..<150 {
            var model = try Self.whole.get()
            let pair = [all.randomElement(using: &random)!, all.randomElement(using: &random)!]
            for spoilt in pair { spoilt.spoil(&model) }
            #expect(throws: PackError.self, "\(pair.map(\.testDescription))") { try model.unpack() }
        }
    }

    private static let whole = Result { try WholeModel() }

    private func refused(_ spoilt: Spoilt) throws {
        var model = try Self.whole.get()
        spoilt.spoil(&model)
        let error = #expect(throws: PackError.self) { try model.unpack() }
        #expect(error.map { $0.description.contains(spoilt.words) } == true, "\(error!)")
    }
}
