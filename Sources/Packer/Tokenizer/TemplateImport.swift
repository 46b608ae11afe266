// SPDX-License-Identifier: Apache-2.0

internal import ChatTemplates
internal import ModelStore
internal import SystemPackage

/// A checkpoint's chat templates, found where transformers 4.57 finds them (tokenization_utils_base.py, `_from_pretrained`):
/// chat_template.jinja and additional_chat_templates/NAME.jinja go before `chat_template` in tokenizer_config.json, which is a text, or
/// named ones. chat_template.json, which only processors of images and sound read there, counts where there is nothing else.
struct TemplateImport {
    private(set) var templates = PackedTemplates()
    private(set) var warnings: [String] = []
    private let directory: FilePath

    /// - Parameter config: tokenizer_config.json, or null.
    init(_ directory: FilePath, config: JSON) throws(PackError) {
        self.directory = directory
        try readFiles()
        if templates.isEmpty {
            try read(config["chat_template"], "tokenizer_config.json")
            try readProcessors()
        } else if config["chat_template"].map({ !$0.isOff }) == true {
            var other = PackedTemplates()
            try Self.read(config["chat_template"], directory, "tokenizer_config.json", &other)
            if other != templates {
                warnings.append(
                    "chat_template.jinja and chat_template in tokenizer_config.json differ: the file counts"
                )
            }
        }
        for template in templates.named
            + (templates.standard.map { [.init(name: "default", source: $0)] } ?? [])
        {
            do { _ = try ChatTemplate(template.source) } catch {
                warnings.append(
                    "the chat template '\(template.name)' is kept, but cannot be rendered here: \(error)"
                )
            }
        }
    }

    private mutating func readFiles() throws(PackError) {
        let path = directory.appending("chat_template.jinja")
        if InputFile.exists(path) { templates.standard = try Self.text(path) }
        let folder = directory.appending("additional_chat_templates")
        let names = (try? Directory.names(in: folder)) ?? []
        for name in names where name.hasSuffix(".jinja") {
            try add(
                try Self.text(folder.appending(name)), String(name.dropLast(6)), folder.string)
        }
    }

    private mutating func readProcessors() throws(PackError) {
        let name = "chat_template.json"
        let path = directory.appending(name)
        guard templates.isEmpty, InputFile.exists(path) else { return }
        try read(try Checkpoint.json(path)["chat_template"], name)
        if !templates.isEmpty {
            warnings.append(
                "the chat template is \(name)'s, which transformers reads for processors only")
        }
    }

    private static func text(_ path: FilePath) throws(PackError) -> String {
        let bytes = try InputFile.read(path, .json, limit: PackedTemplates.sizeLimit)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .malformed(file: path.string, what: "it is not UTF-8")
        }
        return text
    }

    // MARK: Members

    private mutating func read(_ value: JSON?, _ file: String) throws(PackError) {
        try Self.read(value, directory, file, &templates)
    }

    private mutating func add(
        _ source: String, _ name: String, _ file: String
    ) throws(PackError) {
        try Self.add(source, name, file, &templates)
    }

    private static func read(
        _ value: JSON?, _ directory: FilePath, _ file: String, _ templates: inout PackedTemplates
    ) throws(PackError) {
        guard let value, !value.isOff else { return }
        let path = directory.appending(file).string
        func wrong() -> PackError {
            .malformed(
                file: path,
                what: "chat_template is \(value.brief), neither a text nor a list of named ones")
        }
        switch value {
        case .string(let source): try add(source, "default", path, &templates)
        case .array(let list):
            for item in list {
                guard let name = item["name"]?.string, let source = item["template"]?.string else {
                    throw wrong()
                }
                try add(source, name, path, &templates)
            }
        case .object(let members):
            for member in members {
                guard let source = member.value.string else { throw wrong() }
                try add(source, member.name, path, &templates)
            }
        default: throw wrong()
        }
    }

    private static func add(
        _ source: String, _ name: String, _ file: String, _ templates: inout PackedTemplates
    ) throws(PackError) {
        guard source.utf8.count <= PackedTemplates.sizeLimit else {
            throw .unsupported(
                file: file,
                what:
                    "a chat template of \(source.utf8.count) bytes; at most \(PackedTemplates.sizeLimit) are kept"
            )
        }
        templates.add(source, name: name)
        guard templates.named.count <= PackedTemplates.countLimit else {
            throw .unsupported(
                file: file,
                what: "more than \(PackedTemplates.countLimit) named chat templates")
        }
    }
}
