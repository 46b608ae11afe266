// SPDX-License-Identifier: Apache-2.0

/// A JSON document as it was written: members keep their order, and none may come twice.
///
/// Our own reader, because what a checkpoint's headers say must be unambiguous: Foundation's keeps
/// one of two members of the same name without a word.
package enum JSON: Sendable {
    case null
    case bool(Bool)
    /// A number written without fraction or exponent that fits.
    case integer(Int)
    case number(Double)
    case string(String)
    case array([JSON])
    case object([Member])

    package struct Member: Sendable {
        package let name: String
        package let value: JSON

        package init(_ name: String, _ value: JSON) {
            self.name = name
            self.value = value
        }
    }

    /// The first member called `name`, compared byte by byte; nil if this is no object.
    package subscript(name: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name.isSame(as: name) }?.value
    }

    package var string: String? { if case .string(let text) = self { text } else { nil } }
    package var bool: Bool? { if case .bool(let flag) = self { flag } else { nil } }
    package var array: [JSON]? { if case .array(let items) = self { items } else { nil } }
    package var members: [Member]? { if case .object(let list) = self { list } else { nil } }
    package var isNull: Bool { if case .null = self { true } else { false } }

    /// Whether this is the same value, whatever the order of members.
    package func isSame(as other: JSON) -> Bool {
        switch (self, other) {
        case (.null, .null): true
        case (.bool(let left), .bool(let right)): left == right
        case (.string(let left), .string(let right)): left.isSame(as: right)
        case (.array(let left), .array(let right)):
            left.elementsEqual(right) { $0.isSame(as: $1) }
        case (.object(let left), .object(let right)):
            left.count == right.count
                && left.allSatisfy { other[$0.name]?.isSame(as: $0.value) == true }
        default: number.map { $0 == other.number } ?? false
        }
    }

    /// Whether this says "not at all": null, false, 0, nothing in it.
    package var isOff: Bool {
        switch self {
        case .null: true
        case .bool(let flag): !flag
        case .integer(let value): value == 0
        case .number(let value): value == 0
        case .string(let text): text.isEmpty || text == "none"
        case .array(let items): items.isEmpty
        case .object(let members): members.isEmpty
        }
    }

    /// A whole number, also one written as 1.0 or 1e3. From 2^53 on a Double may stand for another one than was written.
    package var integer: Int? {
        switch self {
        case .integer(let value): value
        case .number(let value): abs(value) < 0x1p53 ? Int(exactly: value) : nil
        default: nil
        }
    }

    package var number: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .number(let value): value
        default: nil
        }
    }

    /// What kind of value this is, for messages.
    package var kind: String {
        switch self {
        case .null: "null"
        case .bool: "a boolean"
        case .integer, .number: "a number"
        case .string: "a string"
        case .array: "a list"
        case .object: "an object"
        }
    }
}

/// A syntax error and where it is. `offset`: bytes from the start.
package struct JSONError: Error, Equatable {
    package let what: String
    package let offset: Int
}
