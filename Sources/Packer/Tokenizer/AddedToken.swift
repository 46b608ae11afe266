// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// A token named apart from the vocabulary: `<s>`, or one that a later training added.
struct AddedToken {
    /// What the file says its id is; nil for one that is only named.
    let id: Int?
    let content: String
    let isSpecial: Bool
    /// Looked for in text whose spaces are "▁" already (`Vocabulary.normalized`).
    let isNormalized: Bool
    /// Flags that change how the token is found in text, in a way that is not done.
    let ignoredFlags: [String]
    /// The file it stands in.
    let file: String

    /// - Parameter flags: the object with `special`, `lstrip` and so on.
    init(id: Int?, content: String, flags: JSON, file: String) throws(PackError) {
        let reader = ConfigReader(json: flags, file: "\(file): added token \"\(content.quoted)\"")
        self.id = id
        self.content = content
        self.file = file
        isSpecial = try reader.flag("special", default: false)
        isNormalized = try reader.flag("normalized", default: !isSpecial)
        var ignored: [String] = []
        for flag in ["lstrip", "rstrip", "single_word"]
        where try reader.flag(flag, default: false) { ignored.append(flag) }
        ignoredFlags = ignored
    }

    /// A token of added_tokens.json, or one that is named as special.
    init(id: Int?, content: String, isSpecial: Bool, file: String) {
        self.id = id
        self.content = content
        self.isSpecial = isSpecial
        self.file = file
        isNormalized = !isSpecial
        ignoredFlags = []
    }
}

/// A vocabulary on its way from a checkpoint's files, and what there is to say of them.
struct VocabularyDraft {
    var vocabulary: Vocabulary
    /// The file that the vocabulary comes from.
    let file: String
    /// What the files ask for that is survivable but not done.
    var warnings: [String] = []
    private(set) var ids: [ByteString: UInt32] = [:]
    /// How many entries the vocabulary proper has: the first added token's id, holes or not.
    private let ownCount: Int
    private var lastAdded = -1
    /// As many tokens as the model has rows for.
    private let limit: Int

    /// - Parameter count: entries of `vocabulary`, its holes not counted.
    init(_ vocabulary: Vocabulary, count: Int, file: String, limit: Int) throws(PackError) {
        self.vocabulary = vocabulary
        self.file = file
        self.limit = limit
        ownCount = count
        ids.reserveCapacity(vocabulary.count)
        for id in 0..<vocabulary.count {
            let piece = ByteString(Array(vocabulary.piece(id)))
            guard ids.updateValue(UInt32(id), forKey: piece) == nil else {
                throw .malformed(
                    file: file,
                    what: "two tokens are \"\(vocabulary.text(id).quoted)\", \(id) the second")
            }
        }
        guard vocabulary.count <= limit else { throw tooMany(vocabulary.count) }
    }

    private func tooMany(_ count: Int) -> PackError {
        .unsupported(
            file: file,
            what:
                "\(count) tokens, but the model's vocabulary (vocab_size in config.json) has \(limit)"
        )
    }

    func id(of content: String) -> UInt32? { ids[ByteString(content)] }

    /// Adds a token as `tokenizers` does: one that is there is marked, any other gets the next id. A file that gives it another
    /// id is refused, for ids decide what the model sees. Returns nil for a token that the model has no row for.
    @discardableResult
    mutating func add(_ token: AddedToken) throws(PackError) -> UInt32? {
        let next = max(ownCount, lastAdded + 1)
        let id = id(of: token.content).map(Int.init) ?? next
        if let wanted = token.id, wanted != id {
            throw .malformed(
                file: token.file,
                what: (0..<vocabulary.count).contains(wanted)
                    ? "token \(wanted) is \"\(vocabulary.text(wanted).quoted)\" and, as an added token, "
                        + "\"\(token.content.quoted)\""
                    : "added token \"\(token.content.quoted)\" has the id \(wanted), but the "
                        + "tokenizers library gives it \(id): ids of added tokens follow on each other"
            )
        }
        if id >= vocabulary.count || self.id(of: token.content) == nil {
            guard id == vocabulary.count else {
                throw .unsupported(
                    file: token.file,
                    what:
                        "added token \"\(token.content.quoted)\" gets the id \(id) from the tokenizers library, "
                        + "which \"\(vocabulary.text(id).quoted)\" has: the vocabulary has holes")
            }
            guard id < limit else {
                warnings.append(
                    "\(token.file): \"\(token.content.quoted)\" is token \(id), the model has \(limit): "
                        + "left out; in a text it is plain characters")
                return nil
            }
            vocabulary.append(token.content.utf8, .normal)
            ids[ByteString(token.content)] = UInt32(id)
        }
        lastAdded = max(lastAdded, id)
        try mark(token, id)
        return UInt32(id)
    }

    private mutating func mark(_ token: AddedToken, _ id: Int) throws(PackError) {
        if vocabulary.kinds[id] == .byte {
            warnings.append(
                "\(token.file): added token \"\(token.content.quoted)\" is the token of a byte, "
                    + "ignoring: a text that spells it is plain characters")
        }
        guard vocabulary.kinds[id] == .normal else { return }
        if vocabulary.byteLevel != nil { try checkByteLevel(token, id) }
        vocabulary.kinds[id] = token.isSpecial ? .control : .userDefined
        // Where nothing is done to text before, the flag says nothing.
        let changesText = !vocabulary.prefixesOnlyIfMissing && vocabulary.byteLevel == nil
        if token.isNormalized, changesText, !token.isSpecial {
            vocabulary.normalized.append(UInt32(id))
        }
        var ignored = token.ignoredFlags
        if token.isNormalized, changesText, token.isSpecial { ignored.append("normalized") }
        if !ignored.isEmpty {
            warnings.append(
                "\(token.file): added token \"\(token.content.quoted)\" asks for "
                    + "\(ignored.joined(separator: ", ")), ignoring")
        }
    }

    /// Refuses flags of an added token, and tokens that are pieces too: each would make other tokens of some text.
    private func checkByteLevel(_ token: AddedToken, _ id: Int) throws(PackError) {
        let flags = token.ignoredFlags + (token.isNormalized ? ["normalized"] : [])
        guard flags.isEmpty else {
            throw .unsupported(
                file: token.file,
                what:
                    "added token \"\(token.content.quoted)\" asks for \(flags.joined(separator: ", ")), "
                    + "which is not done with byte-level tokenizers")
        }
        guard id >= ownCount || !isMade(id) else {
            throw .unsupported(
                file: token.file,
                what:
                    "added token \"\(token.content.quoted)\" is a piece too, which texts that do not name it can become"
            )
        }
    }

    private func isMade(_ id: Int) -> Bool {
        vocabulary.byteLevel == .llama3 || vocabulary.merges.contains { $0.result == UInt32(id) }
    }

    /// Brings the vocabulary to the model's size; a smaller one leaves rows that no text reaches, which is usual.
    mutating func fill() {
        vocabulary.normalized.sort()
        if vocabulary.count < limit {
            warnings.append(
                "the tokenizer has \(vocabulary.count) tokens, the model \(limit): the rest is unused"
            )
        }
        while vocabulary.count < limit {
            var name = "<unused\(vocabulary.count)>"
            while ids[ByteString(name)] != nil { name += "_" }
            ids[ByteString(name)] = UInt32(vocabulary.count)
            vocabulary.append(name.utf8, .unused)
        }
    }

    /// Refuses what no reader of the packed file would take.
    func check() throws(PackError) {
        for id in 0..<vocabulary.count {
            let piece = vocabulary.piece(id)
            guard !piece.isEmpty, !piece.contains(0) else {
                throw .malformed(file: file, what: "token \(id) is empty or holds a NUL")
            }
        }
        do { try vocabulary.check() } catch {
            throw .unsupported(file: file, what: error.description)
        }
    }
}
