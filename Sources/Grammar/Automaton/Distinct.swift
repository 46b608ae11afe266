// SPDX-License-Identifier: Apache-2.0

/// What has a hash of its own, computed once.
protocol Mixed: Equatable, Sendable {
    var hash: UInt64 { get }
}

enum Mix {
    /// Another in each process, so that no source can be written to collide.
    static let seed = UInt64.random(in: .min ... .max)

    static func hash(_ hash: UInt64, _ word: UInt64) -> UInt64 {
        let (high, low) = ((hash ^ word) &+ 0x9E37_79B9_7F4A_7C15).multipliedFullWidth(
            by: 0xD6E8_FEB8_6659_FD93)
        return (high ^ low) &+ hash
    }
}

/// Distinct elements, in the order in which they came. Mostly one or two.
struct Distinct<Element: Mixed> {
    private(set) var elements: [Element] = []
    /// Open addressing over `elements`; empty while there are few.
    private var table: [Int32] = []

    var count: Int { elements.count }

    /// - Returns: whether it is new.
    mutating func insert(_ element: Element) -> Bool {
        let hash = element.hash
        if table.isEmpty {
            for known in elements where known.hash == hash && known == element {
                return false
            }
            elements.append(element)
            if elements.count > 8 { rebuild() }
            return true
        }
        var at = Int(truncatingIfNeeded: hash) & (table.count - 1)
        while table[at] >= 0 {
            let known = elements[Int(table[at])]
            if known.hash == hash, known == element { return false }
            at = (at + 1) & (table.count - 1)
        }
        table[at] = Int32(elements.count)
        elements.append(element)
        if elements.count * 2 > table.count { rebuild() }
        return true
    }

    private mutating func rebuild() {
        table = [Int32](repeating: -1, count: max(32, table.count * 2))
        for (index, element) in elements.enumerated() {
            var at = Int(truncatingIfNeeded: element.hash) & (table.count - 1)
            while table[at] >= 0 { at = (at + 1) & (table.count - 1) }
            table[at] = Int32(index)
        }
    }
}
