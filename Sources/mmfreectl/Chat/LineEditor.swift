// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A line that is being edited, as a value: keys in, the line and what to show out. Emacs' keys, as in shells.
struct LineEditor {
    enum Result: Equatable {
        case line(String)
        /// Ctrl-C.
        case interrupted
        /// Ctrl-D on an empty line.
        case ended
        /// Ctrl-Z.
        case suspended
    }

    private(set) var text: [Character] = []
    private(set) var cursor = 0
    private(set) var history: [String] = []
    /// Which line of the history is shown; its count stands for the new one.
    private var place = 0
    private var draft: [Character] = []
    private var killed: [Character] = []
    /// Bytes of a character or of a key that is not complete.
    private var pending: [UInt8] = []
    private var isPasting = false
    private static let historyLimit = 1000
    private static let pasteBegin = Array("\u{1B}[200~".utf8)
    private static let pasteEnd = Array("\u{1B}[201~".utf8)

    /// Takes bytes of the terminal. What comes after the end of a line is not taken: the count says how much was.
    mutating func take(_ bytes: [UInt8]) -> (taken: Int, result: Result?) {
        for (index, byte) in bytes.enumerated() {
            pending.append(byte)
            guard let key = complete() else { continue }
            pending = []
            if let result = press(key) { return (index + 1, result) }
        }
        return (bytes.count, nil)
    }

    private enum Key: Equatable {
        case text(Character)
        case control(UInt8)
        /// An escape sequence without its ESC [ or ESC O.
        case sequence(String)
    }

    /// The key that the pending bytes are, when they are all of it.
    private mutating func complete() -> Key? {
        let first = pending[0]
        if first == 0x1B {
            guard pending.count > 1 else { return nil }
            guard pending[1] == 0x5B || pending[1] == 0x4F else { return .sequence("alt") }
            guard pending.count > 2 else { return nil }
            // Parameters, then one byte from @ on. One that never ends is no key.
            guard let last = pending.last, (0x40...0x7E).contains(last) || pending.count > 16 else {
                return nil
            }
            return .sequence(String(decoding: pending[2...], as: UTF8.self))
        }
        if first < 0x20 || first == 0x7F { return .control(first) }
        let length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4
        guard
            pending.count >= length
                || pending.last.map({ $0 < 0x80 || $0 >= 0xC0 }) == true && pending.count > 1
        else { return nil }
        return String(decoding: pending, as: UTF8.self).first.map { .text($0) }
    }

    private mutating func press(_ key: Key) -> Result? {
        switch key {
        case .text(let character): insert(character)
        case .sequence(let name): press(sequence: name)
        // A line break of pasted text does not end the line.
        case .control(0x0D) where isPasting, .control(0x0A) where isPasting: insert("\n")
        case .control(0x0D), .control(0x0A): return .line(end())
        case .control(0x03):
            clear()
            return .interrupted
        case .control(0x04) where text.isEmpty: return .ended
        case .control(0x1A): return .suspended
        case .control(let byte): press(control: byte)
        }
        return nil
    }

    private mutating func press(control byte: UInt8) {
        switch byte {
        case 0x01: cursor = 0
        case 0x05: cursor = text.count
        case 0x02: cursor = max(0, cursor - 1)
        case 0x06: cursor = min(text.count, cursor + 1)
        case 0x04: delete(cursor..<min(text.count, cursor + 1))
        case 0x08, 0x7F: delete(max(0, cursor - 1)..<cursor)
        case 0x0B: kill(cursor..<text.count)
        case 0x15: kill(0..<cursor)
        case 0x17: kill(wordStart..<cursor)
        case 0x19: for character in killed { insert(character) }
        case 0x10: show(place - 1)
        case 0x0E: show(place + 1)
        case 0x09: insert("\t")
        default: break
        }
    }

    private mutating func press(sequence name: String) {
        switch name {
        case "A": show(place - 1)
        case "B": show(place + 1)
        case "C": cursor = min(text.count, cursor + 1)
        case "D": cursor = max(0, cursor - 1)
        case "H", "1~", "7~": cursor = 0
        case "F", "4~", "8~": cursor = text.count
        case "3~": delete(cursor..<min(text.count, cursor + 1))
        case "1;5D": cursor = wordStart
        case "1;5C":
            cursor = text[cursor...].firstIndex { !$0.isWhitespace } ?? text.count
            cursor = text[cursor...].firstIndex(where: \.isWhitespace) ?? text.count
        case "200~": isPasting = true
        case "201~": isPasting = false
        default: break
        }
    }

    private var wordStart: Int {
        var start = cursor
        while start > 0, text[start - 1].isWhitespace { start -= 1 }
        while start > 0, !text[start - 1].isWhitespace { start -= 1 }
        return start
    }

    private mutating func insert(_ character: Character) {
        // An accent that comes alone joins what stands before it.
        if cursor > 0, let joined = Self.joined(text[cursor - 1], character) {
            text[cursor - 1] = joined
            return
        }
        text.insert(character, at: cursor)
        cursor += 1
    }

    private static func joined(_ a: Character, _ b: Character) -> Character? {
        let both = String(a) + String(b)
        return both.count == 1 ? both.first : nil
    }

    private mutating func delete(_ range: Range<Int>) {
        text.removeSubrange(range)
        cursor = range.lowerBound
    }

    private mutating func kill(_ range: Range<Int>) {
        killed = Array(text[range])
        delete(range)
    }

    private mutating func show(_ index: Int) {
        guard (0...history.count).contains(index), index != place else { return }
        if place == history.count { draft = text }
        place = index
        text = index == history.count ? draft : Array(history[index])
        cursor = text.count
    }

    private mutating func end() -> String {
        let line = String(text)
        if !line.isEmpty, line != history.last { history.append(line) }
        if history.count > Self.historyLimit { history.removeFirst() }
        clear()
        return line
    }

    mutating func clear() {
        (text, draft, cursor, isPasting) = ([], [], 0, false)
        place = history.count
    }

    // MARK: Showing it

    /// Escape sequences that draw the line over the present one: the part around the cursor that fits.
    func drawing(prompt: String, columns: Int) -> String {
        let shown = text.map { Self.shown($0) }
        let widths = shown.map { $0.reduce(0) { $0 + Self.width($1) } }
        let room = max(1, columns - prompt.count - 1)
        var first = cursor
        var width = 0
        while first > 0, width + widths[first - 1] <= room {
            first -= 1
            width += widths[first]
        }
        let column = prompt.count + width
        var last = cursor
        while last < shown.count, width + widths[last] <= room {
            width += widths[last]
            last += 1
        }
        return "\r\u{1B}[K" + prompt + shown[first..<last].joined() + "\r"
            + (column > 0 ? "\u{1B}[\(column)C" : "")
    }

    /// A character as it may be sent to a terminal.
    private static func shown(_ character: Character) -> String {
        switch character {
        case "\n": "⏎"
        case "\t": " "
        default: Terminal.harmless(String(character), keepingLines: false)
        }
    }

    private static func width(_ character: Character) -> Int {
        guard let scalar = character.unicodeScalars.first else { return 0 }
        switch scalar.value {
        case 0..<0x300: return 1
        // Combining marks.
        case 0x300..<0x370, 0x200B...0x200F: return 0
        // East Asian wide characters and emoji.
        case 0x1100..<0x1160, 0x2E80..<0xA4D0, 0xAC00..<0xD7A4, 0xF900..<0xFB00, 0xFE30..<0xFE70,
            0xFF00..<0xFF61, 0xFFE0..<0xFFE7, 0x1F300..<0x1F650, 0x1F680..<0x1F700,
            0x1F900..<0x1FA00, 0x20000..<0x40000:
            return 2
        default: return 1
        }
    }
}
