// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore

/// `POST /v1/completions`, checked.
struct CompletionRequest {
    let plan: GenerationPlan
    let form: CompletionForm

    init(_ bytes: [UInt8], _ configuration: GatewayConfiguration) throws(APIError) {
        var fields = try Fields(bytes)
        let model = try fields.string("model") ?? ""
        let prompts = try fields.prompts()
        var options = try fields.sampling()
        // OpenAI's default.
        options.maxTokens = try fields.integer("max_tokens", 1...Int(Int32.max)) ?? 16
        options.logprobs = try fields.integer("logprobs", 0...64)
        options.echo = try fields.bool("echo") ?? false
        let n = try fields.integer("n", 1...128) ?? 1
        let bestOf = try fields.integer("best_of", 1...128) ?? n
        let (isStream, hasUsage) = try fields.streaming()
        try fields.refuse("suffix", "the models continue text; they do not fill gaps")
        try fields.finish()

        if bestOf < n { throw .invalid("best_of", "\(bestOf), less than n, which is \(n)") }
        if isStream, bestOf > n {
            throw .invalid(
                "best_of", "with \"stream\": true it is n: which are best is known in the end")
        }
        plan = GenerationPlan(
            model: model, prompts: prompts, options: options, n: n, bestOf: bestOf,
            isStream: isStream, hasUsage: hasUsage)
        form = CompletionForm(hasLogprobs: options.logprobs != nil, echo: options.echo)
    }
}

extension Fields {
    /// A text, tokens, or a list of either.
    mutating func prompts() throws(APIError) -> [Prompt] {
        guard let value = value("prompt") else {
            throw .invalid(param("prompt"), "it is missing", code: "missing_required_parameter")
        }
        if let text = value.string { return [.text(text)] }
        guard let items = value.array, let first = items.first else {
            throw .invalid(
                param("prompt"),
                "give a string, a list of strings, tokens, or a list of token lists")
        }
        if first.integer != nil { return [.tokens(try tokens(items, "prompt"))] }
        var prompts: [Prompt] = []
        for (index, item) in items.enumerated() {
            let name = "prompt[\(index)]"
            switch item {
            case .string(let text): prompts.append(.text(text))
            case .array(let ids): prompts.append(.tokens(try tokens(ids, name)))
            default:
                throw .invalid(
                    param(name), "\(item.kind) where a string or a list of tokens belongs",
                    code: "invalid_type")
            }
        }
        return prompts
    }

    func tokens(_ items: [JSON], _ name: String) throws(APIError) -> [TokenID] {
        var ids: [TokenID] = []
        ids.reserveCapacity(items.count)
        for (index, item) in items.enumerated() {
            guard let id = item.integer.flatMap({ TokenID(exactly: $0) }) else {
                throw .invalid(
                    param("\(name)[\(index)]"), "\(item.brief) is not a token's number",
                    code: "invalid_type")
            }
            ids.append(id)
        }
        if ids.isEmpty { throw .invalid(param(name), "no tokens") }
        return ids
    }
}
