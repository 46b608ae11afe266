// SPDX-License-Identifier: Apache-2.0

import RPC

/// A model's chat template, and what it says of the model.
public struct ModelTemplate: Sendable, Equatable {
    /// Jinja, as in `tokenizer_config.json`.
    public let source: String
    /// How the vocabulary spells the beginning-of-text and end-of-text tokens, which a template may write; `nil` where there is none.
    public let bosToken, eosToken: String?
    /// The model's name, and its digest in hexadecimal.
    public let model, modelDigest: String
    /// Whether it is the file `NAME.jinja` beside the model instead of the template that the model was packed with.
    public let isFromSetting: Bool

    init(_ answer: ChatTemplateResponse) {
        source = answer.template
        bosToken = answer.bosToken.isEmpty ? nil : answer.bosToken
        eosToken = answer.eosToken.isEmpty ? nil : answer.eosToken
        model = answer.model
        modelDigest = answer.modelDigest
        isFromSetting = answer.fromSetting
    }
}
