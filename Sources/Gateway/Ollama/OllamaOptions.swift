// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore

extension Fields {
    /// The name of a model: Ollama's clients put a tag behind it.
    mutating func ollamaModel() throws(APIError) -> String {
        let model = try string("model")
        let old = try string("name")
        let name = model ?? old ?? ""
        return name.hasSuffix(":latest") ? String(name.dropLast(7)) : name
    }

    /// `options`, with the defaults that Ollama's documentation gives.
    mutating func ollamaOptions() throws(APIError) -> GenerateOptions {
        var options = GenerateOptions()
        var fields = try object("options") ?? Fields([], "options.")
        options.temperature = try fields.number("temperature", 0...100) ?? 0.8
        options.topK = try fields.integer("top_k", -1...Int(Int32.max)).map { max(0, $0) } ?? 40
        options.topP = try fields.number("top_p", 0...1) ?? 0.9
        options.minP = try fields.number("min_p", 0...1)
        options.repetitionPenalty = try fields.number("repeat_penalty", 0.01...100)
        options.presencePenalty = try fields.number("presence_penalty", -2...2)
        options.frequencyPenalty = try fields.number("frequency_penalty", -2...2)
        // 0 is no seed in Ollama's clients, as is -1.
        options.seed = try fields.integer("seed", Int.min...Int.max)
            .flatMap { $0 == 0 || $0 == -1 ? nil : UInt64(bitPattern: Int64($0)) }
        options.stop = try fields.strings("stop")
        // -1 and -2: as many as the daemon gives.
        options.maxTokens = try fields.integer("num_predict", -2...Int(Int32.max))
            .flatMap { $0 > 0 ? $0 : nil }
        // What the model is computed with, and how much of the text it sees: all of it.
        fields.ignore(
            "num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "low_vram",
            "use_mmap", "use_mlock", "vocab_only", "numa", "f16_kv")
        for name in ["mirostat", "repeat_last_n", "penalize_newline"] {
            try fields.refuse(name, "there is no such way of choosing tokens here")
        }
        for name in ["typical_p", "tfs_z"] {
            if let value = try fields.number(name, 0...100), value != 1 {
                throw .invalid(
                    fields.param(name), "there is no such way of choosing tokens here",
                    code: "unsupported_parameter")
            }
        }
        fields.ignore("mirostat_tau", "mirostat_eta")
        try fields.finish()
        ignore("keep_alive")
        return options
    }
}
