// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// What the members of config.json and generation_config.json mean to a model's answers.
///
/// Sources: matmulfreellm, mmfreelm/models/hgrn_bit/configuration_hgrn_bit.py; transformers, configuration_utils.py and
/// generation/configuration_utils.py; forks and relatives of both for what is refused.
enum ConfigKeys {
    /// What `CheckpointConfig` reads.
    private static let read: Set<String> = [
        "architectures", "attn_mode", "auto_map", "bos_token_id", "dtype", "eos_token_id",
        "expand_ratio",
        "hidden_act", "hidden_ratio", "hidden_size", "intermediate_size", "layer_norm_eps",
        "layer_norm_epsilon", "max_position_embeddings", "model_type",
        "norm_eps", "num_heads", "num_hidden_layers", "pad_token_id", "rms_norm_eps",
        "tie_word_embeddings",
        "torch_dtype", "use_lower_bound", "use_short_conv", "vocab_size", "_name_or_path",
    ]

    /// What changes no logit, whatever it says: training, storage, other tasks' heads, this or that implementation.
    private static let inert: Set<String> = [
        "_attn_implementation", "_attn_implementation_autoset", "_commit_hash",
        "_experts_implementation", "_flash_attn_2_enabled", "_from_model_config",
        "attention_dropout", "attention_probs_dropout_prob", "attn_implementation",
        "chunk_size_feed_forward",
        "classifier_dropout", "conv_size", "decoder_start_token_id", "embd_pdrop",
        "finetuning_task", "fuse_cross_entropy",
        "fuse_norm", "fuse_swiglu", "fuse_linear_cross_entropy", "gradient_checkpointing",
        "hidden_dropout_prob", "id2label", "initializer_factor", "initializer_range", "is_decoder",
        "keys_to_ignore_at_inference", "label2id", "max_seq_length", "model_max_length", "n_ctx",
        "num_labels", "output_attentions", "output_hidden_states", "output_scores", "prefix",
        "problem_type", "resid_pdrop", "return_dict", "return_dict_in_generate", "sep_token_id",
        "share_conv_kernel", "task_specific_params", "tie_encoder_decoder", "tokenizer_class",
        "torchscript",
        "transformers_version", "unsloth_fixed", "unsloth_version", "use_bfloat16", "use_cache",
        "use_l2warp",
    ]

    /// What makes another model of the same tensors, unless it is off.
    private static let foreign: Set<String> = [
        "add_cross_attention", "alibi", "attention_bias", "attn", "attn_logit_softcapping", "bias",
        "compression_config", "conv_bias", "cross_attention_hidden_size",
        "final_logit_softcapping", "is_encoder_decoder", "layer_scale", "logits_soft_cap",
        "logit_softcapping", "lora", "lora_config", "lora_rank", "mlp_bias", "moe",
        "parallel_residual",
        "peft_config", "pruned_heads", "qk_norm", "quantization_config", "quantization",
        "residual_scale", "rope_scaling", "rope_parameters", "rotary", "rotary_dim",
        "rotary_embedding", "rotary_embeddings", "rotary_pct", "scale_embeddings", "sliding_window",
        "use_alibi", "use_attention", "use_bias", "use_conv", "use_moe",
        "use_parallel_residual", "use_qk_norm", "use_rope", "use_rotary", "use_rotary_embeddings",
        "use_sliding_window", "use_ternary_rope",
    ]

    /// What makes another model unless it is 1, or off.
    private static let factors: Set<String> = [
        "attention_multiplier", "embedding_multiplier", "logit_scale", "logits_scaling",
        "residual_multiplier", "scale_depth", "scale_emb",
    ]

    /// What chooses tokens rather than computes logits: each request says that itself.
    private static let sampling: Set<String> = [
        "bad_words_ids", "begin_suppress_tokens", "diversity_penalty", "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "epsilon_cutoff",
        "eta_cutoff",
        "exponential_decay_length_penalty", "force_words_ids", "forced_bos_token_id",
        "forced_decoder_ids", "forced_eos_token_id", "guidance_scale", "length_penalty",
        "max_length",
        "max_new_tokens", "max_time", "min_length", "min_new_tokens", "min_p",
        "no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences",
        "penalty_alpha",
        "prompt_lookup_num_tokens", "remove_invalid_values", "renormalize_logits",
        "repetition_penalty", "sequence_bias", "stop_strings", "suppress_tokens", "temperature",
        "token_healing", "top_k", "top_p", "typical_p", "watermarking_config",
    ]

    /// Their defaults, where these are not off.
    private static let usual = [
        "encoder_repetition_penalty": 1.0, "guidance_scale": 1, "length_penalty": 1,
        "max_length": 20, "num_beam_groups": 1, "num_beams": 1, "num_return_sequences": 1,
        "repetition_penalty": 1, "temperature": 1, "top_k": 50, "top_p": 1, "typical_p": 1,
    ]

    /// Refuses what makes another model of config.json, and says what else is not understood, in words to follow its name.
    static func check(_ config: JSON, file: String) throws(PackError) -> [String] {
        var unknown: [String] = []
        for member in config.members ?? [] {
            let (name, value) = (member.name, member.value)
            let isPlain = factors.contains(name) ? value.isOff || value.number == 1 : value.isOff
            if foreign.contains(name) || factors.contains(name), !isPlain {
                throw .unsupported(
                    file: file,
                    what: "\(name) is \(value.brief); only HGRNBit without it is computed here")
            }
            let isKnown = [read, inert, foreign, factors, sampling].contains { $0.contains(name) }
            if !isKnown, !value.isNull { unknown.append(text(member)) }
        }
        var warnings = sampling(config, file: "config.json")
        if !unknown.isEmpty {
            warnings.append(
                "config.json: not known here, ignoring: \(list(unknown)). If the code this checkpoint "
                    + "was trained with heeds them, answers will differ")
        }
        return warnings + details(config)
    }

    /// Members that are read by nobody because the original code does not read them either, and one that only says where
    /// that code is.
    private static func details(_ config: JSON) -> [String] {
        var warnings: [String] = []
        if let act = config["hidden_act"]?.string, act != "swish", act != "silu" {
            warnings.append(
                "config.json: hidden_act is \"\(act.quoted)\", ignoring, as the original code does: it computes SiLU"
            )
        }
        if let map = config["auto_map"], !map.isOff {
            warnings.append(
                "config.json: auto_map names code that comes with the checkpoint (\(map.brief)); it "
                    + "is not run: the model is computed as matmulfreellm does")
        }
        return warnings
    }

    enum Meaning { case foreign, known, unknown }

    /// What a member that an architecture does not read itself means to it.
    static func meaning(of member: JSON.Member) -> Meaning {
        let (name, value) = (member.name, member.value)
        let isPlain = factors.contains(name) ? value.isOff || value.number == 1 : value.isOff
        if foreign.contains(name) || factors.contains(name), !isPlain { return .foreign }
        let isKnown = [inert, foreign, factors, sampling].contains { $0.contains(name) }
        return isKnown || value.isNull ? .known : .unknown
    }

    /// What generation_config.json, or an older config.json, asks for that each request asks for itself.
    static func sampling(_ json: JSON, file: String) -> [String] {
        let asked = (json.members ?? []).filter { member in
            sampling.contains(member.name) && !member.value.isOff
                && usual[member.name].map { $0 == member.value.number } != true
        }
        guard !asked.isEmpty else { return [] }
        return [
            "\(file): not kept, for each request says this itself: \(list(asked.map(text)))"
        ]
    }

    /// All that generation_config.json says beside the special tokens.
    static func generation(_ json: JSON) -> [String] {
        let tokens: Set = ["bos_token_id", "eos_token_id", "pad_token_id"]
        let unknown = (json.members ?? []).filter { member in
            let name = member.name
            return !tokens.contains(name) && !sampling.contains(name) && !inert.contains(name)
                && !name.hasPrefix("cache_") && !name.hasPrefix("assistant_") && !member.value.isOff
        }
        let file = "generation_config.json"
        guard !unknown.isEmpty else { return sampling(json, file: file) }
        return sampling(json, file: file) + [
            "\(file): not known here, ignoring: \(list(unknown.map(text)))"
        ]
    }

    private static func text(_ member: JSON.Member) -> String {
        "\(member.name.quoted) \(member.value.brief)"
    }

    private static func list(_ texts: [String]) -> String {
        texts.prefix(20).joined(separator: ", ") + (texts.count > 20 ? ", …" : "")
    }
}
