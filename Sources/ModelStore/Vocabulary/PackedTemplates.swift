// SPDX-License-Identifier: Apache-2.0

/// The chat templates of a packed file, under GGUF's usual keys: `tokenizer.chat_template`, and others by name.
package struct PackedTemplates: Sendable, Equatable {
    package struct Named: Sendable, Equatable {
        package let name: String
        package let source: String

        package init(name: String, source: String) {
            self.name = name
            self.source = source
        }
    }

    /// The one for conversations that ask for no other.
    package var standard: String?
    /// The others, by name.
    package private(set) var named: [Named] = []

    /// What the templates' `bos_token` and `eos_token` are, empty for none; nil where the file does not say.
    package var bosToken: String?
    package var eosToken: String?

    /// Bytes of one template, names of all, and how many there may be.
    package static let sizeLimit = 1 << 20
    package static let nameLimit = 64
    package static let countLimit = 32

    package init() {}

    package var isEmpty: Bool { standard == nil && named.isEmpty }

    /// Adds one; what is not a letter or digit of ASCII becomes "_" in its name, as in other writers of GGUF.
    package mutating func add(_ source: String, name: String) {
        let clean = String(
            String.UnicodeScalarView(
                name.unicodeScalars.prefix(Self.nameLimit).map { scalar in
                    scalar.isASCII
                        && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar))
                        ? scalar : "_"
                }))
        if clean == "default" {
            standard = source
            return
        }
        named.removeAll { $0.name == clean }
        named.append(Named(name: clean, source: source))
        named.sort { $0.name < $1.name }
    }

    package subscript(name: String) -> String? {
        name.isEmpty || name == "default"
            ? standard : named.first { $0.name == name }?.source
    }

    /// The keys and values to write, in order.
    ///
    /// - Parameter keys: the architecture's.
    package func facts(_ keys: FormatKeys = .hgrnbit) -> Facts {
        var facts: Facts = named.map {
            ("\(FormatKeys.chatTemplate).\($0.name)", .string($0.source))
        }
        if !named.isEmpty { facts.append((FormatKeys.chatTemplates, .strings(named.map(\.name)))) }
        if let standard { facts.append((FormatKeys.chatTemplate, .string(standard))) }
        if let bosToken { facts.append((keys.templateBOS, .string(bosToken))) }
        if let eosToken { facts.append((keys.templateEOS, .string(eosToken))) }
        return facts
    }

    /// Reads those of a file.
    package init(_ metadata: Metadata) throws(StoreError) {
        func source(_ key: String) throws(StoreError) -> String {
            let source = try metadata.string(forKey: key)
            guard source.utf8.count <= Self.sizeLimit else {
                throw .malformed(
                    "\(key) is \(source.utf8.count) bytes long; at most \(Self.sizeLimit) are allowed"
                )
            }
            return source
        }
        func token(_ key: String) throws(StoreError) -> String? {
            guard metadata.contains(key) else { return nil }
            let text = try metadata.string(forKey: key)
            guard text.utf8.count <= Format.pieceLimit else {
                throw .malformed(
                    "\(key) is \(text.utf8.count) bytes long; at most \(Format.pieceLimit) are allowed"
                )
            }
            return text
        }
        bosToken = try token(metadata.own.templateBOS)
        eosToken = try token(metadata.own.templateEOS)
        if metadata.contains(FormatKeys.chatTemplate) {
            standard = try source(FormatKeys.chatTemplate)
        }
        guard metadata.contains(FormatKeys.chatTemplates) else { return }
        for name in try metadata.strings(
            forKey: FormatKeys.chatTemplates, atMost: Self.countLimit)
        {
            named.append(
                Named(name: name, source: try source("\(FormatKeys.chatTemplate).\(name)")))
        }
    }
}
