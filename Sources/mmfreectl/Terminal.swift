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

    static func note(_ text: String) { write(2, text + "\n") }

    static func complain(_ message: String) { note("mmfreectl: \(message)") }

    /// Control characters but line feed and tab as "\x1b".
    static func harmless(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: isControl) else { return text }
        return text.unicodeScalars.map { scalar in
            isControl(scalar) ? "\\x" + String(format: "%02x", scalar.value) : String(scalar)
        }.joined()
    }

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        (scalar.value < 0x20 && scalar != "\n" && scalar != "\t")
            || (0x7F...0x9F).contains(scalar.value)
    }

    private static func write(_ descriptor: Int32, _ text: String) {
        var text = text
        text.withUTF8 { bytes in
            var rest = UnsafeRawBufferPointer(bytes)
            while !rest.isEmpty {
                let count = Foundation.write(descriptor, rest.baseAddress, rest.count)
                if count < 0, errno == EINTR { continue }
                // A closed pipe: `mmfreectl … | head` is no error of ours.
                if count < 0 { exit(errno == EPIPE ? 141 : ExitStatus.io.rawValue) }
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
            }
        }
    }

    /// An object as one line of JSON, its keys sorted.
    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        return String(decoding: try encoder.encode(value), as: UTF8.self)
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

/// Rows under headings, columns as wide as they need to be.
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
