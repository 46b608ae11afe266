// SPDX-License-Identifier: Apache-2.0

/// Values as text, the way Python writes them.
extension Renderer {
    /// Python's `str`.
    func text(_ value: Value) throws(TemplateError) -> Text {
        switch value {
        case .text(let text), .safe(let text): return text
        case .undefined: return Text([])
        default:
            var out: [Unicode.Scalar] = []
            try represent(value, in: &out)
            return Text(out)
        }
    }

    /// Python's `repr`.
    private func represent(
        _ value: Value, in out: inout [Unicode.Scalar]
    ) throws(TemplateError) {
        let start = out.count
        switch value {
        case .undefined: out += "Undefined".unicodeScalars
        case .none: out += "None".unicodeScalars
        case .bool(let flag): out += (flag ? "True" : "False").unicodeScalars
        case .int(let number): out += String(number).unicodeScalars
        case .float(let number): out += PythonFloat.text(number).unicodeScalars
        case .text(let text): Self.quote(text, in: &out)
        case .list(let items): try represent("[", items.values, "]", in: &out)
        case .tuple(let items):
            try represent("(", items.values, items.values.count == 1 ? ",)" : ")", in: &out)
        case .dict(let dict):
            out.append("{")
            for (index, (key, value)) in zip(dict.keys, dict.values).enumerated() {
                if index > 0 { out += ", ".unicodeScalars }
                try represent(key, in: &out)
                out += ": ".unicodeScalars
                try represent(value, in: &out)
            }
            out.append("}")
        case .view(let view, _):
            out += "dict_\(view.rawValue)(".unicodeScalars
            try represent("[", try elements(value), "])", in: &out)
        case .range(let span):
            let step = span.step == 1 ? "" : ", \(span.step)"
            out += "range(\(span.start), \(span.stop)\(step))".unicodeScalars
        case .safe, .iterator, .namespace, .macro, .loop, .builtin, .method:
            throw unsupported("a \(value.type) as text")
        }
        try charge(text: out.count - start)
        guard out.count <= TemplateLimits.output else {
            try charge(text: out.count)
            return
        }
    }

    private func represent(
        _ open: String, _ values: [Value], _ close: String, in out: inout [Unicode.Scalar]
    ) throws(TemplateError) {
        out += open.unicodeScalars
        for (index, value) in values.enumerated() {
            if index > 0 { out += ", ".unicodeScalars }
            try represent(value, in: &out)
        }
        out += close.unicodeScalars
    }

    private static func quote(_ text: Text, in out: inout [Unicode.Scalar]) {
        let quote: Unicode.Scalar =
            text.scalars.contains("'") && !text.scalars.contains("\"") ? "\"" : "'"
        out.append(quote)
        for scalar in text.scalars {
            switch scalar {
            case "\\", quote: out += ["\\", scalar]
            case "\n": out += ["\\", "n"]
            case "\r": out += ["\\", "r"]
            case "\t": out += ["\\", "t"]
            default:
                if scalar.isPythonPrintable {
                    out.append(scalar)
                } else {
                    let (letter, width) =
                        scalar.value < 0x100
                        ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
                    let digits = String(scalar.value, radix: 16)
                    out += "\\\(letter)".unicodeScalars
                    out += repeatElement("0", count: width - digits.utf8.count)
                    out += digits.unicodeScalars
                }
            }
        }
        out.append(quote)
    }
}

/// Floats as Python writes them: the shortest digits that give the same number, with an exponent below 1e-4 and from 1e16 on.
enum PythonFloat {
    static func text(_ number: Double) -> String {
        guard number.isFinite else { return number.isNaN ? "nan" : number < 0 ? "-inf" : "inf" }
        // Swift's digits are the same, its notation is not.
        var description = number.magnitude.description
        var exponent = 0
        if let mark = description.firstIndex(of: "e") {
            exponent = Int(description[description.index(after: mark)...]) ?? 0
            description = String(description[..<mark])
        }
        let parts = description.split(separator: ".", omittingEmptySubsequences: false)
        var digits = Array(String(parts[0]) + (parts.count > 1 ? String(parts[1]) : ""))
        var point = parts[0].count + exponent
        while digits.count > 1, digits.first == "0" {
            digits.removeFirst()
            point -= 1
        }
        while digits.count > 1, digits.last == "0" { digits.removeLast() }
        if digits == ["0"] { point = 1 }
        let sign = number.sign == .minus ? "-" : ""
        if point > 16 || point < -3 {
            let power = point - 1
            let fraction = digits.count > 1 ? "." + String(digits[1...]) : ""
            let width = power.magnitude < 10 ? "0" : ""
            return
                "\(sign)\(digits[0])\(fraction)e\(power < 0 ? "-" : "+")\(width)\(power.magnitude)"
        }
        if point <= 0 {
            return sign + "0." + String(repeating: "0", count: -point) + String(digits)
        }
        if digits.count <= point {
            return sign + String(digits) + String(repeating: "0", count: point - digits.count)
                + ".0"
        }
        return sign + String(digits[..<point]) + "." + String(digits[point...])
    }
}
