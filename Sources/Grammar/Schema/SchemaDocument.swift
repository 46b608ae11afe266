// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// A schema and where it stands.
struct LocatedSchema: Sendable {
    /// A JSON pointer as a URI fragment: "#/properties/a". Unique in a document.
    let place: String
    let schema: JSON

    func error(_ keyword: String, _ problem: String) -> GrammarError {
        GrammarError(keyword.isEmpty ? place : "\(place)/\(Self.escaped(keyword))", problem)
    }

    /// A part of it: `name` is a member's name or an index.
    func part(_ name: String, _ schema: JSON) -> LocatedSchema {
        LocatedSchema(place: "\(place)/\(Self.escaped(name))", schema: schema)
    }

    func part(_ keyword: String, _ index: Int, _ schema: JSON) -> LocatedSchema {
        part(keyword, schema).part("\(index)", schema)
    }

    static func escaped(_ name: String) -> String {
        var out = ""
        for scalar in name.unicodeScalars {
            switch scalar {
            case "~": out += "~0"
            case "/": out += "~1"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
}

/// A schema document: what `$ref` may lead to.
struct SchemaDocument: Sendable {
    let root: LocatedSchema
    /// Drafts up to 7: what stands beside a `$ref` is ignored there.
    let refsStandAlone: Bool

    private static let drafts = [
        "http://json-schema.org/draft-04/schema": true,
        "http://json-schema.org/draft-06/schema": true,
        "http://json-schema.org/draft-07/schema": true,
        "https://json-schema.org/draft/2019-09/schema": false,
        "https://json-schema.org/draft/2020-12/schema": false,
    ]

    init(_ bytes: [UInt8]) throws(GrammarError) {
        let json: JSON
        do { json = try JSON(parsing: bytes) } catch {
            throw GrammarError(byte: error.offset, "not a JSON document: \(error.what)")
        }
        root = LocatedSchema(place: "#", schema: json)
        guard let draft = json["$schema"] else {
            refsStandAlone = false
            return
        }
        let name = draft.string.map { $0.hasSuffix("#") ? String($0.dropLast()) : $0 } ?? ""
        guard let known = Self.drafts[name] else {
            throw root.error(
                "$schema", "an unknown dialect; known are drafts 4, 6, 7, 2019-09 and 2020-12")
        }
        refsStandAlone = known
    }

    /// What a `$ref` of `from` leads to.
    func resolve(_ from: LocatedSchema, _ value: JSON) throws(GrammarError) -> LocatedSchema {
        guard let text = value.string else { throw from.error("$ref", "it must be a string") }
        guard text == "#" || text.hasPrefix("#/") else {
            throw from.error(
                "$ref", "'\(text.quoted)': only \"#\" and JSON pointers (\"#/…\") are supported")
        }
        var found = root
        for part in text.dropFirst(2).split(separator: "/", omittingEmptySubsequences: false)
        where text != "#" {
            guard let name = Self.unescaped(part) else {
                throw from.error("$ref", "'\(text.quoted)' is no JSON pointer")
            }
            let next: JSON? =
                switch found.schema {
                case .object: found.schema[name]
                case .array(let items):
                    Int(name).flatMap { items.indices.contains($0) ? items[$0] : nil }
                default: nil
                }
            guard let next else {
                throw from.error("$ref", "'\(text.quoted)' leads nowhere")
            }
            found = found.part(name, next)
        }
        return found
    }

    /// Undoes "%20", "~1" and "~0".
    private static func unescaped(_ part: Substring) -> String? {
        var bytes: [UInt8] = []
        let raw = Array(part.utf8)
        var at = 0
        while at < raw.count {
            switch raw[at] {
            case UInt8(ascii: "%"):
                guard at + 2 < raw.count,
                    let value = UInt8(
                        String(decoding: raw[at + 1...at + 2], as: UTF8.self), radix: 16)
                else { return nil }
                bytes.append(value)
                at += 3
            case UInt8(ascii: "~"):
                guard at + 1 < raw.count, raw[at + 1] == 0x30 || raw[at + 1] == 0x31 else {
                    return nil
                }
                bytes.append(raw[at + 1] == 0x30 ? UInt8(ascii: "~") : UInt8(ascii: "/"))
                at += 2
            default:
                bytes.append(raw[at])
                at += 1
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }
}
