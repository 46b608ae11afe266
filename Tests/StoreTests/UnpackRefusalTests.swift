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
            FormatKeys.hgrnbit.vocabularySize, .uint32(0),
            "hgrnbit.vocab_size is 0; it must be 1 to 1048576"),
        .fact(
            FormatKeys.hgrnbit.vocabularySize, .uint32(.max),
            "hgrnbit.vocab_size is 4294967295; it must be 1 to 1048576"),
        .fact(
            FormatKeys.hgrnbit.vocabularySize, .bool(true),
            "the key hgrnbit.vocab_size holds bool, not uint32"),
        .fact(FormatKeys.hgrnbit.vocabularySize, nil, "the key hgrnbit.vocab_size is missing"),
        .fact(
            FormatKeys.hgrnbit.embeddingLength, .uint32(17),
            "tensor blk.0.attn_norm.weight is f32 [16], but the file's own keys ask for f32 [17]"),
        .fact(
            FormatKeys.hgrnbit.embeddingLength, .uint32(0),
            "hgrnbit.embedding_length is 0; it must be 1 to 65536"),
        .fact(
            FormatKeys.hgrnbit.embeddingLength, .uint32(.max),
            "hgrnbit.embedding_length is 4294967295; it must be 1 to 65536"),
        .fact(
            FormatKeys.hgrnbit.blockCount, .uint32(0),
            "hgrnbit.block_count is 0; it must be 1 to 1024"),
        .fact(
            FormatKeys.hgrnbit.blockCount, .uint32(2), "tensor blk.1.attn_norm.weight is missing"),
        .fact(
            FormatKeys.hgrnbit.blockCount, .uint32(.max),
            "hgrnbit.block_count is 4294967295; it must be 1 to 1024"),
        .fact(
            FormatKeys.hgrnbit.feedForwardLength, .uint32(0),
            "hgrnbit.feed_forward_length is 0; it must be 1 to 1048576"),
        .fact(
            FormatKeys.hgrnbit.feedForwardLength, .uint32(21),
            "tensor blk.0.ffn_down_norm.weight is f32 [20], but the file's own keys ask for f32 [21]"
        ),
        .fact(
            FormatKeys.hgrnbit.feedForwardLength, .uint32(.max),
            "hgrnbit.feed_forward_length is 4294967295; it must be 1 to 1048576"),
        .fact(
            FormatKeys.hgrnbit.innerLength, .uint32(0),
            "hgrnbit.inner_length is 0; it must be 1 to 131072"),
        .fact(
            FormatKeys.hgrnbit.innerLength, .uint32(32),
            "tensor blk.0.attn_gate_norm.weight is f32 [16], but the file's own keys ask for f32 [32]"
        ),
        .fact(
            FormatKeys.hgrnbit.innerLength, .uint32(.max),
            "hgrnbit.inner_length is 4294967295; it must be 1 to 131072"),
        .fact(
            FormatKeys.hgrnbit.headCount, .uint32(0),
            "hgrnbit.attention.head_count is 0; it must be 1 to 65536"),
        .fact(
            FormatKeys.hgrnbit.headCount, .uint32(3),
            "the packed file: hidden_size 16 is not divisible by num_heads 3"),
        .fact(
            FormatKeys.hgrnbit.rmsEpsilon, .float(.nan),
            "hgrnbit.attention.layer_norm_rms_epsilon is nan; it must be between 0 and 1"),
        .fact(
            FormatKeys.hgrnbit.rmsEpsilon, .float(0),
            "hgrnbit.attention.layer_norm_rms_epsilon is 0.0; it must be between 0 and 1"),
        .fact(
            FormatKeys.hgrnbit.rmsEpsilon, .float(-1),
            "hgrnbit.attention.layer_norm_rms_epsilon is -1.0; it must be between 0 and 1"),
        .fact(
            FormatKeys.hgrnbit.useLowerBound, .bool(true), "tensor lower_bounds.weight is missing"
        ),
        .fact(
            FormatKeys.hgrnbit.contextLength, .uint32(0),
            "hgrnbit.context_length is 0; it must be 1 to 2147483647"),
        .fact(FormatKeys.hgrnbit.useLowerBound, nil, "the key hgrnbit.use_lower_bound is missing"),
        .fact(
            FormatKeys.hgrnbit.embeddingEncoding, .string("q6"),
            "tensor token_embd.weight is bf16 [4, 16], but the file's own keys ask for i8 [208]"),
        .fact(
            FormatKeys.hgrnbit.embeddingEncoding, .string("f32"),
            "tensor token_embd.weight is bf16 [4, 16], but the file's own keys ask for f32 [4, 16]"),
        .fact(
            FormatKeys.hgrnbit.embeddingEncoding, .string("?"),
            "hgrnbit.embedding.encoding is '?'; f32, f16, bf16 and q6 are read"),
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
            FormatKeys.hgrnbit.merges, .uint32s([1, 2, 4, 0]),
            "merge 0 (1 and 2 to 4) names a token that is not there; there are 4"),
        .fact(
            FormatKeys.unknownToken, .uint32(4),
            "its unknown token is 4; there are 4"),
        .fact(
            FormatKeys.addBOS, .uint32(1),
            "the key tokenizer.ggml.add_bos_token holds uint32, not bool"),
    ]

    static let wrongTensors: [Spoilt] = [
        Spoilt("no head", "tensor output.weight is missing") {
            $0.put(nil, for: "output.weight")
        },
        Spoilt("no norm", "tensor output_norm.weight is missing") {
            $0.put(nil, for: "output_norm.weight")
        },
        Spoilt("no embedding", "tensor token_embd.weight is missing") {
            $0.put(nil, for: "token_embd.weight")
        },
        Spoilt(
            "a head of other rows",
            "tensor output.weight is ternary [5, 16], but the file's own keys ask for ternary [4, 16]"
        ) {
            $0.put(
                TensorPlan(packed: "output.weight", rows: 5, columns: 16, sourceType: "BF16"),
                for: "output.weight")
        },
        Spoilt("a head that is not packed", "tensor output.weight is missing") {
            $0.put(TensorPlan(name: "output.weight", type: .i8, shape: [64]), for: "output.weight")
        },
        Spoilt(
            "a head from a type that is none",
            "tensor output.weight was made of I8; F32, F16 and BF16 are written"
        ) {
            $0.put(
                TensorPlan(packed: "output.weight", rows: 4, columns: 16, sourceType: "I8"),
                for: "output.weight")
        },
        Spoilt(
            "a norm of another length",
            "tensor output_norm.weight is f32 [15], but the file's own keys ask for f32 [16]"
        ) {
            $0.put(
                TensorPlan(name: "output_norm.weight", type: .f32, shape: [15]),
                for: "output_norm.weight")
        },
        Spoilt(
            "a norm of another type",
            "tensor output_norm.weight is i32 [16], but the file's own keys ask for f32 [16]"
        ) {
            $0.put(
                TensorPlan(name: "output_norm.weight", type: .i32, shape: [16]),
                for: "output_norm.weight")
        },
        Spoilt(
            "an embedding of another type",
            "tensor token_embd.weight is f16 [4, 16], but the file's own keys ask for bf16 [4, 16]"
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
