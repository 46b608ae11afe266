// SPDX-License-Identifier: Apache-2.0

extension JSON {
    /// The document as UTF-8 text, indented by two spaces and ended by a newline; always the same
    /// bytes for the same document.
    package func written() -> [UInt8] {
        var out: [UInt8] = []
        write(to: &out, indent: 0)
        out.append(0x0a)
        return out
    }

    /// The document on one line.
    package func writtenCompactly() -> [UInt8] {
        var out: [UInt8] = []
        writeCompactly(to: &out)
        return out
    }

    /// Appends the document on one line.
    package func writeCompactly(to out: inout [UInt8]) { write(to: &out, indent: nil) }

    /// The document on one line and cut to 80 characters, for messages.
    package var brief: String { String(decoding: writtenCompactly(), as: UTF8.self).quoted }

    private static func text(_ number: Double) -> String {
        number.isNaN
            ? "NaN" : number.isFinite ? number.description : number < 0 ? "-Infinity" : "Infinity"
    }

    private func write(to out: inout [UInt8], indent: Int?) {
        switch self {
        case .null: out.append(contentsOf: "null".utf8)
        case .bool(let flag): out.append(contentsOf: (flag ? "true" : "false").utf8)
        case .integer(let value): out.append(contentsOf: String(value).utf8)
        case .number(let value): out.append(contentsOf: Self.text(value).utf8)
        case .string(let text): Self.write(text, to: &out)
        case .array(let items):
            Self.writeList("[", "]", items, to: &out, indent: indent) { item, out, indent in
                item.write(to: &out, indent: indent)
            }
        case .object(let members):
            Self.writeList("{", "}", members, to: &out, indent: indent) { member, out, indent in
                Self.write(member.name, to: &out)
                out.append(contentsOf: (indent == nil ? ":" : ": ").utf8)
                member.value.write(to: &out, indent: indent)
            }
        }
    }

    private static func writeList<Item>(
        _ open: String, _ close: String, _ items: [Item], to out: inout [UInt8], indent: Int?,
        _ write: (Item, inout [UInt8], Int?) -> Void
    ) {
        out.append(contentsOf: open.utf8)
        let inner = indent.map { $0 + 2 }
        for (position, item) in items.enumerated() {
            if position > 0 { out.append(UInt8(ascii: ",")) }
            newline(inner, to: &out)
            write(item, &out, inner)
        }
        if !items.isEmpty { newline(indent, to: &out) }
        out.append(contentsOf: close.utf8)
    }

    private static func newline(_ indent: Int?, to out: inout [UInt8]) {
        guard let indent else { return }
        out.append(0x0a)
        out.append(contentsOf: repeatElement(0x20, count: indent))
    }

    private static func write(_ text: String, to out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                out.append(0x5c)
                out.append(byte)
            case 0x0a: out.append(contentsOf: "\\n".utf8)
            case 0..<0x20, 0x7f:
                out.append(contentsOf: "\\u00".utf8)
                out.append(hex(byte >> 4))
                out.append(hex(byte & 15))
            default: out.append(byte)
            }
        }
        out.append(UInt8(ascii: "\""))
    }

    private static func hex(_ digit: UInt8) -> UInt8 { digit + (digit < 10 ? 48 : 87) }
}
