// SPDX-License-Identifier: Apache-2.0

/// What stands between a string's quotes, with Python's escapes.
enum StringLiteral {
    static func unescaped(
        _ scalars: ArraySlice<Unicode.Scalar>
    ) throws(TemplateError) -> [Unicode.Scalar] {
        var out: [Unicode.Scalar] = []
        out.reserveCapacity(scalars.count)
        var rest = scalars
        while let scalar = rest.popFirst() {
            guard scalar == "\\", let escape = rest.popFirst() else {
                out.append(scalar)
                continue
            }
            switch escape {
            case "\n": break
            case "\\", "'", "\"": out.append(escape)
            case "a": out.append("\u{7}")
            case "b": out.append("\u{8}")
            case "t": out.append("\t")
            case "n": out.append("\n")
            case "v": out.append("\u{b}")
            case "f": out.append("\u{c}")
            case "r": out.append("\r")
            case "x": out.append(try hexadecimal(2, &rest))
            case "u": out.append(try hexadecimal(4, &rest))
            case "U": out.append(try hexadecimal(8, &rest))
            case "N":
                throw TemplateError(.unsupported, "a character by its name, '\\N'")
            case "0"..."7":
                var value = escape.value - 48
                for _ in 0..<2 {
                    guard let next = rest.first, ("0"..."7").contains(next) else { break }
                    value = value * 8 + next.value - 48
                    rest.removeFirst()
                }
                out.append(try scalarOf(value))
            default: out += [scalar, escape]
            }
        }
        return out
    }

    private static func hexadecimal(
        _ count: Int, _ rest: inout ArraySlice<Unicode.Scalar>
    ) throws(TemplateError) -> Unicode.Scalar {
        let digits = rest.prefix(count)
        guard digits.count == count, digits.allSatisfy(\.properties.isASCIIHexDigit) else {
            throw TemplateError(.syntax, "an escape of fewer than \(count) hexadecimal digits")
        }
        rest.removeFirst(count)
        var value: UInt32 = 0
        for digit in digits {
            value = value << 4 | (digit.isASCIIDigit ? digit.value - 48 : (digit.value | 32) - 87)
        }
        return try scalarOf(value)
    }

    private static func scalarOf(_ value: UInt32) throws(TemplateError) -> Unicode.Scalar {
        guard let scalar = Unicode.Scalar(value) else {
            throw TemplateError(
                .unsupported, "an escape of U+\(String(value, radix: 16)), which is no character")
        }
        return scalar
    }
}
