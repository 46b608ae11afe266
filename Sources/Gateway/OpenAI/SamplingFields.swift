// SPDX-License-Identifier: Apache-2.0

import MMFree

extension Fields {
    /// What completions and chats have in common. What is absent has OpenAI's default, not the daemon's.
    mutating func sampling() throws(APIError) -> GenerateOptions {
        var options = GenerateOptions()
        options.temperature = try number("temperature", 0...2) ?? 1
        options.topP = try number("top_p", 0...1) ?? 1
        options.presencePenalty = try number("presence_penalty", -2...2)
        options.frequencyPenalty = try number("frequency_penalty", -2...2)
        options.logitBias = try biases("logit_bias")
        options.seed = try seed()
        options.stop = try strings("stop")
        if options.stop.count > 16 {
            throw .invalid(param("stop"), "\(options.stop.count) strings; at most 16 are allowed")
        }
        // Other servers' names for what OpenAI does not have.
        options.topK = try integer("top_k", -1...Int(Int32.max)).map { max(0, $0) }
        options.minP = try number("min_p", 0...1)
        options.repetitionPenalty = try number("repetition_penalty", 0.01...100)
        ignore(
            "user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")
        try refuse("store", "answers are not stored here")
        if let tier = try string("service_tier"), tier != "auto", tier != "default" {
            throw .invalid(param("service_tier"), "there is only one: \"auto\" or \"default\"")
        }
        return options
    }

    /// Any 64-bit whole number; a negative one is taken for its bits.
    private mutating func seed() throws(APIError) -> UInt64? {
        try integer("seed", Int.min...Int.max).map { UInt64(bitPattern: Int64($0)) }
    }

    /// Whether the answer is to be a stream, and whether that is to end with the usage.
    mutating func streaming() throws(APIError) -> (isStream: Bool, hasUsage: Bool) {
        let isStream = try bool("stream") ?? false
        guard var options = try object("stream_options") else { return (isStream, false) }
        if !isStream {
            throw .invalid(param("stream_options"), "only with \"stream\": true")
        }
        let hasUsage = try options.bool("include_usage") ?? false
        // Padding against those who guess answers by the sizes of packets; there is no network here.
        options.ignore("include_obfuscation")
        try options.finish()
        return (isStream, hasUsage)
    }
}
