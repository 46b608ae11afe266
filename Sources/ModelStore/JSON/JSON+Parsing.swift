// SPDX-License-Identifier: Apache-2.0

extension JSON {
    /// Reads one document that fills `bytes` (surrounding white space apart). RFC 8259, and what Python's json writes and reads
    /// beyond it: NaN, Infinity and numbers beyond a Double's, which whoever reads such a member refuses. No comments, trailing
    /// commas or repeated member names; UTF-8 only, with or without a byte order mark.
    package init(parsing bytes: UnsafeBufferPointer<UInt8>) throws(JSONError) {
        var parser = JSONParser(bytes: bytes)
        if bytes.starts(with: [0xef, 0xbb, 0xbf]) { parser.position = 3 }
        self = try parser.value(depth: 0)
        parser.skipSpace()
        if parser.position != bytes.count { throw parser.error("something follows the document") }
    }

    package init(parsing bytes: [UInt8]) throws(JSONError) {
        // Typed throws do not pass through withUnsafeBufferPointer's rethrows everywhere; a Result does.
        let result = bytes.withUnsafeBufferPointer { buffer in
            Result { () throws(JSONError) in try JSON(parsing: buffer) }
        }
        self = try result.get()
    }
}

private struct JSONParser {
    /// Deeper nesting than any configuration file has, far from what the stack allows.
    static let depthLimit = 64

    let bytes: UnsafeBufferPointer<UInt8>
    var position = 0

    init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    func error(_ what: String) -> JSONError { JSONError(what: what, offset: position) }

    /// The byte at the position, or 0 at the end; a real NUL is no part of the grammar either.
    var next: UInt8 { position < bytes.count ? bytes[position] : 0 }

    /// What stands here, for messages.
    var rest: String {
        String(decoding: bytes[position..<min(bytes.count, position + 16)], as: UTF8.self)
    }

    mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0a, 0x0d: position += 1
            default: return
            }
        }
    }

    mutating func value(depth: Int) throws(JSONError) -> JSON {
        if depth > Self.depthLimit { throw error("nested deeper than \(Self.depthLimit)") }
        skipSpace()
        switch next {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "N"): return try word("NaN", .number(.nan))
        case UInt8(ascii: "I"): return try word("Infinity", .number(.infinity))
        case UInt8(ascii: "-") where bytes.dropFirst(position + 1).first == UInt8(ascii: "I"):
            return try word("-Infinity", .number(-.infinity))
        case UInt8(ascii: "/"), UInt8(ascii: "#"):
            throw error("a comment, which JSON does not have")
        case UInt8(ascii: "'"): throw error("a string in single quotes; JSON has double ones")
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
            throw error("a value is missing before this (a comma too many?)")
        default:
            throw error(position < bytes.count ? "not a JSON value: \(rest)" : "ends too early")
        }
    }

    mutating func word(_ text: StaticString, _ value: JSON) throws(JSONError) -> JSON {
        let count = text.utf8CodeUnitCount
        guard bytes.count - position >= count,
            (0..<count).allSatisfy({ bytes[position + $0] == text.utf8Start[$0] })
        else { throw error("not a JSON value: \(rest)") }
        position += count
        return value
    }

    mutating func object(depth: Int) throws(JSONError) -> JSON {
        position += 1
        var members: [JSON.Member] = []
        var seen: Set<ByteString> = []
        skipSpace()
        if next == UInt8(ascii: "}") {
            position += 1
            return .object([])
        }
        while true {
            skipSpace()
            guard next == UInt8(ascii: "\"") else {
                throw error(
                    next == UInt8(ascii: "/") || next == UInt8(ascii: "#")
                        ? "a comment, which JSON does not have" : "a member's name is missing")
            }
            let name = try string()
            if !seen.insert(ByteString(name)).inserted {
                throw error("the member \"\(name.quoted)\" comes twice in one object")
            }
            skipSpace()
            guard next == UInt8(ascii: ":") else { throw error("':' is missing") }
            position += 1
            members.append(JSON.Member(name, try value(depth: depth + 1)))
            skipSpace()
            switch next {
            case UInt8(ascii: ","): position += 1
            case UInt8(ascii: "}"):
                position += 1
                return .object(members)
            default: throw error("',' or '}' is missing")
            }
        }
    }

    mutating func array(depth: Int) throws(JSONError) -> JSON {
        position += 1
        var items: [JSON] = []
        skipSpace()
        if next == UInt8(ascii: "]") {
            position += 1
            return .array([])
        }
        while true {
            items.append(try value(depth: depth + 1))
            skipSpace()
            switch next {
            case UInt8(ascii: ","): position += 1
            case UInt8(ascii: "]"):
                position += 1
                return .array(items)
            default: throw error("',' or ']' is missing")
            }
        }
    }

    mutating func number() throws(JSONError) -> JSON {
        let start = position
        var isInteger = true
        if next == UInt8(ascii: "-") { position += 1 }
        if next == UInt8(ascii: "0") {
            position += 1
        } else {
            try digits()
        }
        if next == UInt8(ascii: ".") {
            isInteger = false
            position += 1
            try digits()
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            isInteger = false
            position += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
            try digits()
        }
        // A megabyte of digits is no number anyone wrote.
        if position - start > 400 { throw error("a number of \(position - start) digits") }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isInteger, let value = Int(text) { return .integer(value) }
        // Beyond a Double's range it is infinite, as in Python.
        guard let value = Double(text) else { throw error("\(text.quoted) is no number") }
        return .number(value)
    }

    mutating func digits() throws(JSONError) {
        let start = position
        while (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(next) { position += 1 }
        if position == start { throw error("a digit is missing") }
    }

    mutating func string() throws(JSONError) -> String {
        position += 1
        let start = position
        while position < bytes.count, bytes[position] != UInt8(ascii: "\""),
            bytes[position] != UInt8(ascii: "\\"), bytes[position] >= 0x20
        {
            position += 1
        }
        guard next == UInt8(ascii: "\"") else { return try escapedString(from: start) }
        let slice = UnsafeBufferPointer(rebasing: bytes[start..<position])
        guard let text = String(validating: slice, as: UTF8.self) else {
            throw error("a string is not UTF-8")
        }
        position += 1
        return text
    }

    /// The rest of a string whose first part, from `start`, held no escape.
    mutating func escapedString(from start: Int) throws(JSONError) -> String {
        var text = Array(bytes[start..<position])
        while true {
            guard position < bytes.count else { throw error("a string does not end") }
            let byte = bytes[position]
            position += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let string = String(validating: text, as: UTF8.self) else {
                    throw error("a string is not UTF-8")
                }
                return string
            case UInt8(ascii: "\\"): try escape(into: &text)
            case 0..<0x20: throw error("a control character in a string")
            default: text.append(byte)
            }
        }
    }

    mutating func escape(into text: inout [UInt8]) throws(JSONError) {
        let byte = next
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0c)
        case UInt8(ascii: "n"): text.append(0x0a)
        case UInt8(ascii: "r"): text.append(0x0d)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var code = UInt32(try hex4())
            if (0xd800..<0xdc00).contains(code) {
                guard next == UInt8(ascii: "\\") else { throw error("half a surrogate pair") }
                position += 1
                guard next == UInt8(ascii: "u") else { throw error("half a surrogate pair") }
                position += 1
                let low = UInt32(try hex4())
                guard (0xdc00..<0xe000).contains(low) else { throw error("half a surrogate pair") }
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw error("half a surrogate pair") }
            text.append(contentsOf: String(Character(scalar)).utf8)
        default: throw error("an unknown escape")
        }
    }

    mutating func hex4() throws(JSONError) -> UInt16 {
        guard bytes.count - position >= 4 else { throw error("ends too early") }
        var code: UInt16 = 0
        for _ in 0..<4 {
            let digit: UInt8
            switch next {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = next - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = next - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = next - UInt8(ascii: "A") + 10
            default: throw error("not a hexadecimal digit")
            }
            code = code << 4 | UInt16(digit)
            position += 1
        }
        return code
    }
}
