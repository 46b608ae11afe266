// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Writing for people and for programs.
enum Terminal {
    static let outputIsTerminal = isatty(1) == 1
    static let errorIsTerminal = isatty(2) == 1

    /// Writes to standard output at once. Ends the program quietly when nobody reads it any more.
    static func print(_ text: String, terminator: String = "\n") {
        write(1, text + terminator)
    }

    /// Writes text a model has made. On a terminal, control characters are shown, not obeyed.
    static func printModelText(_ text: String) {
        write(1, outputIsTerminal ? harmless(text) : text)
    }

    /// Writes a line to standard error. What files and daemons have put into it cannot drive the terminal.
    static func note(_ text: String) { write(2, harmless(text) + "\n") }

    /// Writes over the terminal's present line; "" only takes away what is there.
    static func overwrite(_ text: String) {
        write(2, "\r\u{1B}[K" + harmless(text, keepingLines: false))
    }

    static func complain(_ message: String) { note("mmfreectl: \(message)") }

    /// What would move the cursor, colour the text or turn its direction as "\x1b" and "\u{202e}".
    ///
    /// - Parameter keepingLines: whether line feeds and tabs stay.
    static func harmless(_ text: String, keepingLines: Bool = true) -> String {
        func isHarmful(_ scalar: Unicode.Scalar) -> Bool {
            scalar == "\n" || scalar == "\t" ? !keepingLines : scalar.isControl
        }
        guard text.unicodeScalars.contains(where: isHarmful) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            if !isHarmful(scalar) {
                result.unicodeScalars.append(scalar)
            } else if scalar.value < 0x100 {
                result += "\\x" + String(format: "%02x", scalar.value)
            } else {
                result += "\\u{" + String(scalar.value, radix: 16) + "}"
            }
        }
        return result
    }

    private static func write(_ descriptor: Int32, _ text: String) {
        var text = text
        text.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)
            while !rest.isEmpty {
                let count = Foundation.write(descriptor, rest.baseAddress, rest.count)
                if count < 0, errno == EINTR { continue }
                // A closed pipe: `mmfreectl … | head` is no error of ours.
                // Nor is nobody there to hear what is said on standard error a reason to end the work.
                if count < 0, descriptor == 2 { return }
                if count < 0 { exit(errno == EPIPE ? 141 : ExitStatus.io.rawValue) }
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
            }
        }
    }

    /// An object as one line of JSON, its keys sorted, and safe to show: control characters are escaped.
    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        let text = String(decoding: try encoder.encode(value), as: UTF8.self)
        guard text.unicodeScalars.contains(where: \.isControl) else { return text }
        // They stand in strings only, and all are below U+FFFF.
        return text.unicodeScalars.map {
            $0.isControl ? String(format: "\\u%04x", $0.value) : String($0)
        }.joined()
    }

    /// "1.2 GB", in powers of ten.
    static func bytes(_ count: some BinaryInteger) -> String {
        var value = Double(count)
        var unit = "bytes"
        for next in ["kB", "MB", "GB", "TB"] where value >= 1000 {
            value /= 1000
            unit = next
        }
        return unit == "bytes"
            ? "\(count) bytes"
            : String(format: "%.\(value < 10 ? 2 : value < 100 ? 1 : 0)f \(unit)", value)
    }
}

extension Unicode.Scalar {
    /// The same as SystemdSupport's: C0, DEL and C1; other line breaks, and marks that turn the direction.
    fileprivate var isControl: Bool {
        switch value {
        case 0..<0x20, 0x7F...0x9F, 0x2028...0x202E, 0x2066...0x2069: true
        default: false
        }
    }
}

/// Rows under headings, columns as wide as they need to be. Every cell is one line and harmless.
struct Table {
    var rows: [[String]]
    /// Columns that hold numbers stand to the right.
    var numeric: Set<Int> = []

    init(_ heading: [String], numeric: Set<Int> = []) {
        rows = [heading]
        self.numeric = numeric
    }

    mutating func add(_ row: [String]) { rows.append(row) }

    var text: String {
        let rows = rows.map { $0.map { Terminal.harmless($0, keepingLines: false) } }
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in
            rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        return rows.map { row in
            row.enumerated().map { column, cell in
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                if numeric.contains(column) { return padding + cell }
                return column == row.count - 1 ? cell : cell + padding
            }.joined(separator: "  ")
        }.joined(separator: "\n")
    }
}
