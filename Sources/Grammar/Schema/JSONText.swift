// SPDX-License-Identifier: Apache-2.0

/// How characters are written inside the quotes of a JSON string.
enum JSONText {
    private static let controls = ScalarSet([0...0x1F])
    private static let special = ScalarSet([0x22...0x22, 0x5C...0x5C])
    private static let short: [(UInt32, String)] = [
        (0x08, "b"), (0x09, "t"), (0x0A, "n"), (0x0C, "f"), (0x0D, "r"), (0x22, "\""), (0x5C, "\\"),
    ]

    /// One scalar of a set, in one way: as it is, as a short escape, or, for other control characters, as "\u00…".
    static func scalar(_ set: ScalarSet, _ grammar: inout Expressions) -> ExpressionID {
        var choices = [grammar.scalar(set.subtracting(controls).subtracting(special))]
        for range in set.intersection(controls).ranges + set.intersection(special).ranges {
            for value in range { choices.append(grammar.literal(escape(value))) }
        }
        return grammar.choice(choices)
    }

    /// The escape of a control character, a quote or a backslash.
    private static func escape(_ value: UInt32) -> String {
        if let (_, letter) = short.first(where: { $0.0 == value }) { return "\\" + letter }
        let digits = String(value, radix: 16)
        return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    }

    /// A text in quotes, each character written as `scalar` allows it.
    static func quoted(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = [UInt8(ascii: "\"")]
        for scalar in text.unicodeScalars {
            if scalar.value < 0x20 || scalar == "\"" || scalar == "\\" {
                bytes += Array(escape(scalar.value).utf8)
            } else {
                bytes += Array(String(Character(scalar)).utf8)
            }
        }
        return bytes + [UInt8(ascii: "\"")]
    }

    /// Any one character in any way: as it is, as a short escape, as "\uXXXX", or as a pair of those for what is beyond U+FFFF.
    static func character(in grammar: inout Expressions) -> ExpressionID {
        func set(_ ranges: ClosedRange<UInt8>...) -> ByteSet {
            ranges.reduce(into: ByteSet()) { $0.formUnion(ByteSet($1)) }
        }
        let digit = set(0x30...0x39)
        let hexSet = set(0x30...0x39, 0x41...0x46, 0x61...0x66)
        let hex = grammar.bytes(hexSet)
        let plain = grammar.scalar(ScalarSet.all.subtracting(controls).subtracting(special))
        var letters = ByteSet()
        for byte in "\"\\/bfnrt".utf8 { letters.insert(byte) }
        // \uD800 to \uDFFF come in pairs only.
        var d = ByteSet(UInt8(ascii: "D"))
        d.insert(UInt8(ascii: "d"))
        let notD = set(0x30...0x39, 0x41...0x43, 0x45...0x46, 0x61...0x63, 0x65...0x66)
        let low = set(0x38...0x39, 0x41...0x42, 0x61...0x62)
        let lower = set(0x43...0x46, 0x63...0x66)
        let beforeSurrogates = set(0x30...0x37)
        _ = digit
        let usual = grammar.sequence([grammar.bytes(notD), hex, hex, hex])
        let nearly = grammar.sequence([grammar.bytes(d), grammar.bytes(beforeSurrogates), hex, hex])
        let pair = grammar.sequence([
            grammar.bytes(d), grammar.bytes(low), hex, hex, grammar.literal("\\u"),
            grammar.bytes(d),
            grammar.bytes(lower), hex, hex,
        ])
        let unicode = grammar.sequence([
            grammar.literal("u"), grammar.choice([usual, nearly, pair]),
        ])
        let escaped = grammar.sequence([
            grammar.literal("\\"), grammar.choice([grammar.bytes(letters), unicode]),
        ])
        return grammar.choice([plain, escaped])
    }

    /// A name in quotes that is none of `names`, in the one way of `scalar`.
    static func name(except names: [String], in grammar: inout Expressions) -> ExpressionID {
        let rest = names.map { Array($0.unicodeScalars) }
        let free = grammar.loop(scalar(.all, &grammar), 0, nil)
        return grammar.sequence([grammar.literal("\""), tail(rest[...], free, &grammar)])
    }

    private static func tail(
        _ names: ArraySlice<[Unicode.Scalar]>, _ free: ExpressionID, _ grammar: inout Expressions
    ) -> ExpressionID {
        let end = grammar.literal("\"")
        guard !names.isEmpty else { return grammar.sequence([free, end]) }
        var groups: [Unicode.Scalar: [[Unicode.Scalar]]] = [:]
        for name in names where !name.isEmpty {
            groups[name[0], default: []].append(Array(name.dropFirst()))
        }
        let heads = ScalarSet(groups.keys.map { $0.value...$0.value })
        var choices = [
            grammar.sequence([scalar(heads.inverted, &grammar), free, end])
        ]
        if !names.contains([]) { choices.append(end) }
        for (head, rest) in groups.sorted(by: { $0.key < $1.key }) {
            let next = tail(rest[...], free, &grammar)
            choices.append(grammar.sequence([scalar(ScalarSet(head), &grammar), next]))
        }
        return grammar.choice(choices)
    }
}
