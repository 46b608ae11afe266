// SPDX-License-Identifier: Apache-2.0
//
// Embed, Tokenize, Detokenize and Cancel; proto/mmfree.proto says more of each field.

import CMessages

package struct EmbedInput: CMessage {
    package var input: Prompt?

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__EmbedInput>?) -> Void {
        mmfree__v1__embed_input__init
    }

    mutating func read(_ c: Mmfree__V1__EmbedInput) throws(WireError) {
        switch c.input_case {
        case MMFREE__V1__EMBED_INPUT__INPUT_TEXT: input = .text(try Wire.text(c.text, "text"))
        case MMFREE__V1__EMBED_INPUT__INPUT_TOKENS:
            input = .tokens(c.tokens.map { Wire.values($0.pointee.ids, $0.pointee.n_ids) } ?? [])
        default: input = nil
        }
    }

    func fill(_ c: inout Mmfree__V1__EmbedInput, _ arena: Arena) {
        switch input {
        case .text(let text):
            c.input_case = MMFREE__V1__EMBED_INPUT__INPUT_TEXT
            c.text = arena.bytes(text.utf8)
        case .tokens(let ids):
            c.input_case = MMFREE__V1__EMBED_INPUT__INPUT_TOKENS
            c.tokens = arena.message(TokenIds(ids: ids))
        case nil: break
        }
    }
}

package struct EmbedRequest: CMessage {
    package var model = ""
    package var input: [EmbedInput] = []
    package var pooling = Pooling.unspecified
    /// Scale every vector to length one.
    package var normalize = false

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__EmbedRequest>?) -> Void {
        mmfree__v1__embed_request__init
    }

    mutating func read(_ c: Mmfree__V1__EmbedRequest) throws(WireError) {
        model = try Wire.text(c.model, "model")
        input = try Wire.messages(c.input, c.n_input)
        pooling = try Pooling(wire: Int(c.pooling.rawValue), "pooling")
        normalize = c.normalize != 0
    }

    func fill(_ c: inout Mmfree__V1__EmbedRequest, _ arena: Arena) {
        c.model = arena.string(model)
        c.n_input = input.count
        c.input = arena.messages(input)
        c.pooling = .init(rawValue: .init(pooling.rawValue))
        c.normalize = normalize ? 1 : 0
    }
}

package struct Embedding: CMessage {
    /// Which input this is of.
    package var index: UInt32 = 0
    package var dimensions: UInt32 = 0
    /// `dimensions` floats; with pooling none, that many for each token.
    package var values: [Float] = []
    package var promptTokens: UInt32 = 0

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__Embedding>?) -> Void {
        mmfree__v1__embedding__init
    }

    mutating func read(_ c: Mmfree__V1__Embedding) throws(WireError) {
        index = c.index
        dimensions = c.dimensions
        values = Wire.values(c.values, c.n_values)
        promptTokens = c.prompt_tokens
    }

    func fill(_ c: inout Mmfree__V1__Embedding, _ arena: Arena) {
        c.index = index
        c.dimensions = dimensions
        c.n_values = values.count
        c.values = arena.array(values)
        c.prompt_tokens = promptTokens
    }
}

package struct EmbedResponse: CMessage {
    package var requestID = ""
    package var model = ""
    package var modelDigest = ""
    package var embeddings: [Embedding] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__EmbedResponse>?) -> Void {
        mmfree__v1__embed_response__init
    }

    mutating func read(_ c: Mmfree__V1__EmbedResponse) throws(WireError) {
        requestID = try Wire.text(c.request_id, "request_id")
        model = try Wire.text(c.model, "model")
        modelDigest = try Wire.text(c.model_digest, "model_digest")
        embeddings = try Wire.messages(c.embeddings, c.n_embeddings)
    }

    func fill(_ c: inout Mmfree__V1__EmbedResponse, _ arena: Arena) {
        c.request_id = arena.string(requestID)
        c.model = arena.string(model)
        c.model_digest = arena.string(modelDigest)
        c.n_embeddings = embeddings.count
        c.embeddings = arena.messages(embeddings)
    }
}

package struct TokenizeRequest: CMessage {
    package var model = ""
    package var text = ""
    package var addBOS = false
    package var parseSpecial = false

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__TokenizeRequest>?) -> Void {
        mmfree__v1__tokenize_request__init
    }

    mutating func read(_ c: Mmfree__V1__TokenizeRequest) throws(WireError) {
        model = try Wire.text(c.model, "model")
        text = try Wire.text(c.text, "text")
        addBOS = c.add_bos != 0
        parseSpecial = c.parse_special != 0
    }

    func fill(_ c: inout Mmfree__V1__TokenizeRequest, _ arena: Arena) {
        c.model = arena.string(model)
        c.text = arena.bytes(text.utf8)
        c.add_bos = addBOS ? 1 : 0
        c.parse_special = parseSpecial ? 1 : 0
    }
}

package struct TokenizeResponse: CMessage {
    package var tokens: [UInt32] = []
    /// As they stand in the vocabulary.
    package var pieces: [String] = []

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__TokenizeResponse>?) -> Void {
        mmfree__v1__tokenize_response__init
    }

    mutating func read(_ c: Mmfree__V1__TokenizeResponse) throws(WireError) {
        tokens = Wire.values(c.tokens, c.n_tokens)
        pieces = []
        for value in Wire.values(c.pieces, c.n_pieces) {
            pieces.append(try Wire.text(value, "pieces"))
        }
    }

    func fill(_ c: inout Mmfree__V1__TokenizeResponse, _ arena: Arena) {
        c.n_tokens = tokens.count
        c.tokens = arena.array(tokens)
        c.n_pieces = pieces.count
        c.pieces = arena.array(pieces.map { arena.bytes($0.utf8) })
    }
}

package struct DetokenizeRequest: CMessage {
    package var model = ""
    package var tokens: [UInt32] = []
    /// Write control tokens by their names.
    package var keepSpecial = false

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__DetokenizeRequest>?) -> Void {
        mmfree__v1__detokenize_request__init
    }

    mutating func read(_ c: Mmfree__V1__DetokenizeRequest) throws(WireError) {
        model = try Wire.text(c.model, "model")
        tokens = Wire.values(c.tokens, c.n_tokens)
        keepSpecial = c.keep_special != 0
    }

    func fill(_ c: inout Mmfree__V1__DetokenizeRequest, _ arena: Arena) {
        c.model = arena.string(model)
        c.n_tokens = tokens.count
        c.tokens = arena.array(tokens)
        c.keep_special = keepSpecial ? 1 : 0
    }
}

package struct DetokenizeResponse: CMessage {
    package var text = ""

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__DetokenizeResponse>?) -> Void {
        mmfree__v1__detokenize_response__init
    }

    mutating func read(_ c: Mmfree__V1__DetokenizeResponse) throws(WireError) {
        text = try Wire.text(c.text, "text")
    }

    func fill(_ c: inout Mmfree__V1__DetokenizeResponse, _ arena: Arena) {
        c.text = arena.bytes(text.utf8)
    }
}

package struct CancelRequest: CMessage {
    package var requestID = ""

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__CancelRequest>?) -> Void {
        mmfree__v1__cancel_request__init
    }

    mutating func read(_ c: Mmfree__V1__CancelRequest) throws(WireError) {
        requestID = try Wire.text(c.request_id, "request_id")
    }

    func fill(_ c: inout Mmfree__V1__CancelRequest, _ arena: Arena) {
        c.request_id = arena.string(requestID)
    }
}

package struct CancelResponse: CMessage {
    /// Whether it was still running.
    package var cancelled = false

    package init() {}

    static var initialise: (UnsafeMutablePointer<Mmfree__V1__CancelResponse>?) -> Void {
        mmfree__v1__cancel_response__init
    }

    mutating func read(_ c: Mmfree__V1__CancelResponse) throws(WireError) {
        cancelled = c.cancelled != 0
    }

    func fill(_ c: inout Mmfree__V1__CancelResponse, _ arena: Arena) {
        c.cancelled = cancelled ? 1 : 0
    }
}
