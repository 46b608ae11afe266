// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// The stages of tokenizer.json for byte-level kinds.
extension Vocabulary {
    static func byteLevelStage(_ more: [(String, JSON)] = []) -> JSON {
        object(
            [
                ("type", .string("ByteLevel")), ("add_prefix_space", .bool(false)),
                ("trim_offsets", .bool(false)), ("use_regex", .bool(false)),
            ] + more)
    }

    func byteLevelMembers(_ kind: ByteLevel) -> [(String, JSON)] {
        let split = Self.object([
            ("type", .string("Split")),
            ("pattern", Self.object([("Regex", .string(TokenizerJSON.expression(kind)))])),
            ("behavior", .string("Isolated")), ("invert", .bool(false)),
        ])
        let nfc = Self.object([("type", .string("NFC"))])
        let template = postProcessor
        return [
            ("normalizer", kind == .qwen2 ? nfc : .null),
            (
                "pre_tokenizer",
                Self.object([
                    ("type", .string("Sequence")),
                    ("pretokenizers", .array([split, Self.byteLevelStage()])),
                ])
            ),
            ("post_processor", template.isNull ? Self.byteLevelStage() : template),
            ("decoder", Self.byteLevelStage()),
        ]
    }
}
