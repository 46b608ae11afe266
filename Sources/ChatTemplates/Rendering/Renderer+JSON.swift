// SPDX-License-Identifier: Apache-2.0

/// `tojson`: Python's `json.dumps`, as transformers sets it up.
struct JSONStyle {
    var isASCII = false
    /// Nil: on one line.
    var indent: [Unicode.Scalar]?
    var itemSeparator: [Unicode.Scalar] = []
    var keySeparator: [Unicode.Scalar] = []
    var sortsKeys = false
}

extension Renderer {
    func json(
        _ value: Value, _ style: JSONStyle, level: Int = 0, in out: inout [Unicode.Scalar]
    ) throws(TemplateError) {
        try charge(1)
        guard out.count <= TemplateLimits.output else { return try charge(text: out.count) }
        switch value {
        case .none: out += "null".unicodeScalars
        case .bool(let flag): out += (flag ? "true" : "false").unicodeScalars
        case .int(let number): out += String(number).unicodeScalars
        case .float(let number): out += Self.json(number).unicodeScalars
        case .text(let text), .safe(let text):
            try charge(text: text.count)
            Self.json(text, isASCII: style.isASCII, in: &out)
        case .list(let items), .tuple(let items):
            guard !items.values.isEmpty else {
                out += "[]".unicodeScalars
                return
            }
            out.append("[")
            for (index, item) in items.values.enumerated() {
                if index > 0 { out += style.itemSeparator }
                breakLine(style, level + 1, in: &out)
                try json(item, style, level: level + 1, in: &out)
            }
            breakLine(style, level, in: &out)
            out.append("]")
        case .dict(let dict): try json(dict, style, level: level, in: &out)
        default: throw fail("a \(value.type) cannot be written as JSON")
        }
    }

    private func json(
        _ dict: Dict, _ style: JSONStyle, level: Int, in out: inout [Unicode.Scalar]
    ) throws(TemplateError) {
        guard dict.count > 0 else {
            out += "{}".unicodeScalars
            return
        }
        var pairs: [(key: Value, value: Value)] = Array(
            zip(dict.keys, dict.values).map { (key: $0, value: $1) })
        if style.sortsKeys {
            pairs = try sorted(pairs) { (left, right) throws(TemplateError) in
                try isLess(left.key, right.key)
            }
        }
        out.append("{")
        for (index, (key, value)) in pairs.enumerated() {
            if index > 0 { out += style.itemSeparator }
            breakLine(style, level + 1, in: &out)
            let name: Text
            switch key {
            case .text(let text): name = text
            case .none: name = "null"
            case .bool(let flag): name = flag ? "true" : "false"
            case .int(let number): name = Text(String(number))
            case .float(let number): name = Text(Self.json(number))
            default: throw fail("a \(key.type) cannot be a name in JSON")
            }
            try charge(text: name.count)
            Self.json(name, isASCII: style.isASCII, in: &out)
            out += style.keySeparator
            try json(value, style, level: level + 1, in: &out)
        }
        breakLine(style, level, in: &out)
        out.append("}")
    }

    private func breakLine(_ style: JSONStyle, _ level: Int, in out: inout [Unicode.Scalar]) {
        guard let indent = style.indent else { return }
        out.append("\n")
        for _ in 0..<level { out += indent }
    }

    private static func json(_ number: Double) -> String {
        number.isNaN
            ? "NaN"
            : number.isFinite ? PythonFloat.text(number) : number < 0 ? "-Infinity" : "Infinity"
    }

    private static func json(_ text: Text, isASCII: Bool, in out: inout [Unicode.Scalar]) {
        func escape(_ code: UInt16) {
            let digits = String(code, radix: 16)
            out += "\\u".unicodeScalars
            out += repeatElement("0", count: 4 - digits.utf8.count)
            out += digits.unicodeScalars
        }
        out.append("\"")
        for scalar in text.scalars {
            switch scalar {
            case "\"", "\\": out += ["\\", scalar]
            case "\n": out += ["\\", "n"]
            case "\r": out += ["\\", "r"]
            case "\t": out += ["\\", "t"]
            case "\u{8}": out += ["\\", "b"]
            case "\u{c}": out += ["\\", "f"]
            default:
                if scalar.value < 0x20 || isASCII && scalar.value > 0x7e {
                    UTF16.encode(scalar)?.forEach(escape)
                } else {
                    out.append(scalar)
                }
            }
        }
        out.append("\"")
    }
}
