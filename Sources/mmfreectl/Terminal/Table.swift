// SPDX-License-Identifier: Apache-2.0

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
