// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@Suite("config.json of a model with attention: what is another model is refused by its key")
struct AttentionConfigTests {
    /// The least that is accepted.
    private static let usual: [(String, String)] = [
        ("model_type", #""bitnet""#), ("vocab_size", "64"), ("hidden_size", "32"),
        ("intermediate_size", "48"), ("num_hidden_layers", "1"), ("num_attention_heads", "4"),
        ("num_key_value_heads", "2"), ("tie_word_embeddings", "true"),
        ("quantization_config", #"{"quant_method":"bitnet","linear_class":"autobitlinear"}"#),
    ]

    private func config(_ changes: [(String, String?)]) throws -> AttentionConfig {
        var members = Self.usual
        for (name, value) in changes {
            members.removeAll { $0.0 == name }
            if let value { members.append((name, value)) }
        }
        let text = "{" + members.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ",") + "}"
        return try AttentionConfig(JSON(parsing: Array(text.utf8)), file: "config.json")
    }

    @Test("defaults are the class's own")
    func defaults() throws {
        let bitnet = try config([]).shape
        #expect(bitnet.epsilon == 1e-5 && bitnet.theta == 500_000 && bitnet.context == 2048)
        #expect(bitnet.headSize == 8 && bitnet.scaleSource == .multiply)
        let llama = try config([
            ("model_type", #""llama""#), ("num_key_value_heads", nil),
            ("quantization_config", #"{"quant_method":"bitnet"}"#),
        ]).shape
        #expect(llama.epsilon == 1e-6 && llama.theta == 10000 && llama.keyHeads == 4)
        #expect(llama.scaleSource == .reciprocal && llama.innerEpsilon == nil)
        let qwen = try config([("model_type", #""qwen3""#), ("quantization_config", nil)]).shape
        #expect(qwen.headSize == 128 && qwen.innerEpsilon == 1e-6 && qwen.context == 32768)
        #expect(qwen.scaleSource == .masters)
    }

    @Test("rope_parameters goes before rope_theta")
    func rope() throws {
        let shape = try config([
            ("rope_theta", "10000"),
            ("rope_parameters", #"{"rope_type":"default","rope_theta":1000042.0}"#),
        ]).shape
        #expect(shape.theta == 1_000_042)
    }

    @Test(
        "each of these is refused",
        arguments: [
            ("vocab_size", nil, "vocab_size is absent"),
            ("num_key_value_heads", "3", "no multiple of 3"),
            ("architectures", #"["BitNetForSequenceClassification"]"#, "architectures"),
            ("partial_rotary_factor", "0.5", "partial_rotary_factor"),
            ("rope_scaling", #"{"type":"default","factor":8.0}"#, "factor"),
            ("rope_theta", "1000000.1", "rope_theta 1000000.1 is no float32"),
            ("layer_types", #"["sliding_attention"]"#, "layer_types"),
            ("use_sliding_window", "true", "use_sliding_window"),
            ("sliding_window", "4096", "sliding_window"), ("mlp_bias", "true", "mlp_bias"),
            ("attn_logit_softcapping", "50.0", "attn_logit_softcapping"),
            ("rms_norm_eps", "0", "rms_norm_eps"),
            ("head_dim", "16", "are 64 wide"),
            (
                "quantization_config",
                #"{"quant_method":"bitnet","modules_to_not_convert":[]}"#, "modules_to_not_convert"
            ),
            (
                "quantization_config", #"{"quant_method":"bitnet","group_size":128}"#, "group_size"
            ),
        ] as [(String, String?, String)])
    func refused(_ name: String, _ value: String?, _ words: String) throws {
        do {
            _ = try config([(name, value)])
            Issue.record("accepted")
        } catch let error as PackError {
            #expect(error.description.contains(words), "\(error)")
        }
    }

    @Test("what is not known is said")
    func unknown() throws {
        let warnings = try config([("some_new_key", "7"), ("auto_map", #"{"a":"b"}"#)]).warnings
        #expect(warnings.count == 1 && warnings[0].contains("some_new_key"))
    }
}
