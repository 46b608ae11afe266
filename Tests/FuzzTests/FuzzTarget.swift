// SPDX-License-Identifier: Apache-2.0

import ChatTemplates
import Engine
import Glibc
import Grammar
import ModelStore
import NIOCore
import TestSupport
import Testing

@testable import Packer
@testable import RPC
@testable import mmfreed

/// A parser of what comes from outside, as the fuzzer calls it: any bytes are read or refused, and what was read keeps its
/// promises. A broken promise is a trap, which the fuzzer reports.
enum FuzzTarget: String, CaseIterable, Sendable {
    case frames, messages, gguf, safetensors, json, tokenizer, sentencepiece, settings, sampler,
        state, schema, regex, gbnf, template

    func run(_ bytes: [UInt8]) {
        switch self {
        case .frames: Self.frames(bytes)
        case .messages: Self.messages(bytes)
        case .gguf: Self.gguf(bytes)
        case .safetensors:
            let entries = try? bytes.withUnsafeBytes {
                try SafetensorsFile.parse($0, name: "x")
            }
            for entry in entries ?? [] {
                precondition(entry.offset + entry.byteCount <= bytes.count)
            }
        case .json: Self.json(bytes)
        case .tokenizer:
            guard let json = try? JSON(parsing: bytes) else { return }
            Self.check(
                try? TokenizerJSON(json: json, file: "x", ignoresTemplate: false).draft(limit: 512))
        case .sentencepiece: Self.check(try? SentencePiece(bytes, file: "x").draft(limit: 512))
        case .settings:
            guard let text = String(validating: bytes, as: UTF8.self) else { return }
            var settings = Settings()
            settings.read(text, path: "x")
            precondition(settings.problems.allSatisfy { $0.source.hasPrefix("x:") })
        case .sampler: Self.sampler(bytes)
        case .state: Self.state(bytes)
        case .schema: Self.grammar(.jsonSchema(bytes))
        case .regex: Self.grammar(.regex(bytes))
        case .gbnf: Self.grammar(.gbnf(bytes))
        case .template: Self.template(bytes)
        }
    }

    /// A grammar that is accepted never allows nothing, and an answer that follows its masks is never refused.
    private static func grammar(_ source: GrammarSource) {
        guard let trie, let grammar = try? TokenGrammar(source, trie) else { return }
        var constraint = grammar.start
        for turn in 0..<24 {
            guard let mask = try? constraint.mask() else { return }
            precondition(!mask.isEmpty)
            precondition(mask.contains(256) == constraint.isComplete)
            let allowed = mask.tokens
            let token = allowed[turn * 31 % allowed.count]
            if token == 256 { return }
            guard let isTaken = try? constraint.take(token) else { return }
            precondition(isTaken)
        }
    }

    /// Every byte, an end of text, and some longer tokens.
    private static let trie = try? TokenTrie(count: 260, endTokens: [256]) { id in
        switch id {
        case 257: Array("{\"".utf8)
        case 258: Array("\":".utf8)
        case 259: Array("aa".utf8)
        default: [UInt8(truncatingIfNeeded: id)]
        }
    }

    /// Bytes cut anywhere are the same frames. The first byte says where they are cut.
    private static func frames(_ bytes: [UInt8]) {
        func decode(_ step: Int) -> ([FrameDecoder.Event], FrameDecoder.Lost?) {
            var decoder = FrameDecoder(limit: 100)
            var events: [FrameDecoder.Event] = []
            var start = 1
            do {
                while start < bytes.count {
                    let end = min(start + step, bytes.count)
                    decoder.append(ByteBuffer(bytes: bytes[start..<end]))
                    start = end
                    while let event = try decoder.next() { events.append(event) }
                }
                return (events, nil)
            } catch { return (events, error) }
        }
        guard let step = bytes.first else { return }
        precondition(decode(Int(step) + 1) == decode(bytes.count))
    }

    /// What was decoded is encoded, and that decoded and encoded again is the same. The first byte says which message.
    private static func messages(_ bytes: [UInt8]) {
        func check<M: WireMessage>(_: M.Type) {
            guard let message = try? M(decoding: bytes.dropFirst()) else { return }
            let encoded = message.encoded()
            precondition((try? M(decoding: encoded, budget: 1 << 30))?.encoded() == encoded)
        }
        switch bytes.first.map({ $0 % 8 }) {
        case 0: check(Request.self)
        case 1: check(Response.self)
        case 2: check(GenerateRequest.self)
        case 3: check(GenerateResponse.self)
        case 4: check(EmbedRequest.self)
        case 5: check(EmbedResponse.self)
        case 6: check(TokenizeRequest.self)
        case 7: check(Status.self)
        default: return
        }
    }

    /// A template that compiles renders in bounds or is refused, and always the same.
    private static func template(_ bytes: [UInt8]) {
        guard let source = String(validating: bytes, as: UTF8.self),
            let template = try? ChatTemplate(source)
        else { return }
        let time = TemplateTime(year: 2024, month: 7, day: 26)
        func render() -> String? {
            try? template.render(
                messages: [
                    ["role": "user", "content": "a ü"],
                    ["role": "assistant", "content": nil, "tool_calls": [["n": 1.5]]],
                ], bosToken: "<s>", variables: ["x": ["b", 2, true]], time: time)
        }
        let text = render()
        precondition((text?.utf8.count ?? 0) <= 16 << 20)
        // Text of Swift's is compared byte by byte.
        precondition(text.map { Array($0.utf8) } == render().map { Array($0.utf8) })
    }

    /// A saved state that is accepted is written again as the same bytes, and is the same in parts. The fuzzer finds no checksum, so a
    /// second try has the one that fits.
    private static func state(_ bytes: [UInt8]) {
        func check(_ bytes: [UInt8]) {
            let saved = try? SavedState(decoding: bytes)
            var reader = SavedStateReader()
            let isTaken: Bool
            do {
                var rest = bytes[...]
                while let first = rest.first {
                    // Cut where the bytes themselves say.
                    let part = rest.prefix(1 + Int(first & 31))
                    try reader.take(part)
                    rest = rest.dropFirst(part.count)
                }
                isTaken = reader.isComplete
            } catch { isTaken = false }
            precondition(isTaken == (saved != nil))
            guard let saved else { return }
            precondition(saved.encoded() == bytes && reader.header?.tokens == saved.state.history)
        }
        check(bytes)
        guard bytes.count >= 8, bytes.count % 8 == 0 else { return }
        let sum = SavedState.checksum(bytes.dropLast(8))
        check(bytes.dropLast(8) + withUnsafeBytes(of: sum.littleEndian) { Array($0) })
    }

    private static func gguf(_ bytes: [UInt8]) {
        guard !bytes.isEmpty, let file = try? openSealed(bytes) else { return }
        try? file.verify()
        _ = try? Model(file)
        if let vocabulary = try? Vocabulary(file.metadata, size: nil) { tokenize(vocabulary) }
    }

    /// A vocabulary that is accepted makes a tokenizer, or is refused by it.
    private static func check(_ draft: VocabularyDraft?) {
        guard var draft else { return }
        draft.fill()
        guard (try? draft.check()) != nil else { return }
        tokenize(draft.vocabulary)
    }

    private static func tokenize(_ vocabulary: Vocabulary) {
        guard let tokenizer = try? Tokenizer(vocabulary) else { return }
        let ids = tokenizer.encode("ab a<s>é\n", addBOS: false, parseSpecial: true)
        precondition(ids.allSatisfy { Int($0) < vocabulary.count })
        _ = tokenizer.decode(ids)
    }

    /// What was read and written is read again as the same text.
    private static func json(_ bytes: [UInt8]) {
        guard let json = try? JSON(parsing: bytes) else { return }
        let written = json.writtenCompactly()
        precondition((try? JSON(parsing: written))?.writtenCompactly() == written)
    }

    /// Options that pass `validate` sample a token of the vocabulary, whatever the logits.
    private static func sampler(_ bytes: [UInt8]) {
        var rest = bytes[...]
        func take<T: FixedWidthInteger>(_: T.Type) -> T {
            let taken = rest.prefix(MemoryLayout<T>.size)
            rest = rest.dropFirst(MemoryLayout<T>.size)
            return taken.reversed().reduce(0) { $0 << 8 | T(truncatingIfNeeded: $1) }
        }
        func float() -> Float { Float(bitPattern: take(UInt32.self)) }
        var options = SamplingOptions()
        options.seed = UInt64(take(UInt8.self))
        options.topK = Int(take(UInt16.self))
        options.logprobs = Int(take(UInt8.self))
        options.temperature = float()
        options.topP = float()
        options.minP = float()
        options.repetitionPenalty = float()
        options.presencePenalty = float()
        options.frequencyPenalty = float()
        options.logitBias = [UInt32(take(UInt8.self)): float()]
        let logits = (0..<min(rest.count / 4, 64)).map { _ in float() }
        guard !logits.isEmpty, (try? options.validate(vocabulary: logits.count)) != nil else {
            return
        }
        var sampler = Sampler(options, prompt: [0])
        for _ in 0..<3 {
            let token = logits.withUnsafeBufferPointer { sampler.sample($0) }
            precondition(Int(token.id) < logits.count)
            precondition(token.top.count <= options.logprobs ?? 0)
        }
    }
}
