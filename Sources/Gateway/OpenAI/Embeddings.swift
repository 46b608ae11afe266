// SPDX-License-Identifier: Apache-2.0

import MMFree
import ModelStore

/// `POST /v1/embeddings`, checked.
struct EmbeddingsRequest {
    let model: String
    let inputs: [Prompt]
    let isBase64: Bool
    /// Numbers of a vector, if the request says how many it wants.
    let dimensions: Int?

    /// OpenAI's limit.
    static let mostInputs = 2048

    init(_ bytes: [UInt8], _ configuration: GatewayConfiguration) throws(APIError) {
        var fields = try Fields(bytes)
        model = try fields.string("model") ?? ""
        inputs = try fields.inputs(takesTokens: configuration.takesEmbeddingTokens)
        switch try fields.string("encoding_format") {
        case nil, "float": isBase64 = false
        case "base64": isBase64 = true
        case let other?:
            throw .invalid(
                "encoding_format", "\"\(printable(other))\"; allowed: \"float\" and \"base64\"")
        }
        dimensions = try fields.integer("dimensions", 1...Int(Int32.max))
        fields.ignore("user")
        try fields.finish()
    }
}

extension Fields {
    fileprivate mutating func inputs(takesTokens: Bool) throws(APIError) -> [Prompt] {
        guard let value = value("input") else {
            throw .invalid(param("input"), "it is missing", code: "missing_required_parameter")
        }
        if let text = value.string { return [.text(text)] }
        guard let items = value.array, !items.isEmpty else {
            throw .invalid(param("input"), "give a string or a list of strings")
        }
        guard items.count <= EmbeddingsRequest.mostInputs || items[0].integer != nil else {
            throw .invalid(
                param("input"),
                "\(items.count) inputs; at most \(EmbeddingsRequest.mostInputs) are allowed")
        }
        let isTokens = items[0].integer != nil
        if isTokens || items.contains(where: { $0.array != nil }) {
            guard takesTokens else {
                throw .invalid(
                    param("input"),
                    "token numbers are refused: a client's tokenizer is likely to be another model's. Send text (LangChain: check_embedding_ctx_length=False), or set embedding_tokens for clients that have this model's",
                    code: "tokens_not_allowed")
            }
        }
        if isTokens { return [.tokens(try tokens(items, "input"))] }
        var inputs: [Prompt] = []
        for (index, item) in items.enumerated() {
            switch item {
            case .string(let text): inputs.append(.text(text))
            case .array(let ids): inputs.append(.tokens(try tokens(ids, "input[\(index)]")))
            default:
                throw .invalid(
                    param("input[\(index)]"), "\(item.kind) where a string belongs",
                    code: "invalid_type")
            }
        }
        return inputs
    }
}

extension Gateway {
    func embeddings(_ call: IncomingCall, _ reply: Reply) async throws {
        let request = try EmbeddingsRequest(call.body, configuration)
        let client = call.client
        var name = request.model
        if name.isEmpty {
            name = try await usableModels(call).first(where: \.isDefault)?.name ?? ""
        }
        // Of unit length, as OpenAI's are.
        let vectors = try await client.embed(request.inputs, model: name, normalized: true)
        if let wanted = request.dimensions, let vector = vectors.first, vector.dimensions != wanted
        {
            throw APIError.invalid(
                "dimensions", "\(wanted); vectors of model '\(name)' have \(vector.dimensions)")
        }
        try await reply.send(bytes: Self.answer(vectors, name, isBase64: request.isBase64))
    }

    /// Written without a document in between: 2048 vectors have millions of numbers.
    private static func answer(_ vectors: [Embedding], _ model: String, isBase64: Bool) -> [UInt8] {
        var bytes = Array(#"{"object":"list","data":["#.utf8)
        for (index, vector) in vectors.enumerated() {
            if index > 0 { bytes.append(UInt8(ascii: ",")) }
            bytes += Array(#"{"object":"embedding","index":\#(index),"embedding":"#.utf8)
            if isBase64 {
                let floats = vector.values.flatMap { value in
                    withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) }
                }
                bytes += Array("\"\(base64(floats))\"}".utf8)
            } else {
                var separator = UInt8(ascii: "[")
                for value in vector.values {
                    bytes.append(separator)
                    bytes += value.description.utf8
                    separator = UInt8(ascii: ",")
                }
                bytes += Array("]}".utf8)
            }
        }
        let tokens = vectors.reduce(0) { $0 + $1.promptTokens }
        bytes += Array(#"],"model":"#.utf8) + JSON.string(model).writtenCompactly()
        bytes += Array(
            #","usage":{"prompt_tokens":\#(tokens),"total_tokens":\#(tokens)}}"#.utf8)
        return bytes
    }
}
