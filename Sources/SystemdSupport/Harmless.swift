// SPDX-License-Identifier: Apache-2.0

extension String {
    /// This text for a terminal: what clients choose (a model's name, a prompt) must not move its cursor, colour it, hide what
    /// is there or turn the direction of the line.
    ///
    /// Controls are written as escapes: journalctl shows a text that holds any as "blob data" only, or, with -o cat, sends it.
    ///
    /// - Parameter keepingLines: whether line breaks and tabs stay. Otherwise they become spaces: the text is one line.
    func harmless(keepingLines: Bool = false) -> String {
        guard unicodeScalars.contains(where: \.isHarmful) else { return self }
        var result = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "\n", "\t":
                result.unicodeScalars.append(keepingLines ? scalar : " ")
            case _ where scalar.isHarmful:
                result += "\\u{" + String(scalar.value, radix: 16, uppercase: true) + "}"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}

extension Unicode.Scalar {
    fileprivate var isHarmful: Bool {
        switch value {
        // C0, DEL and C1.
        case 0..<0x20, 0x7F...0x9F: true
        // Other line breaks; marks that turn the direction.
        case 0x2028...0x202E, 0x2066...0x2069: true
        default: false
        }
    }
}
