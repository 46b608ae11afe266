// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// Kinds of JSON values. A number is an integer or a fraction.
struct JSONTypes: OptionSet, Sendable {
    let rawValue: UInt8

    static let null = JSONTypes(rawValue: 1)
    static let boolean = JSONTypes(rawValue: 2)
    static let integer = JSONTypes(rawValue: 4)
    static let fraction = JSONTypes(rawValue: 8)
    static let string = JSONTypes(rawValue: 16)
    static let array = JSONTypes(rawValue: 32)
    static let object = JSONTypes(rawValue: 64)
    static let number: JSONTypes = [.integer, .fraction]
    static let all: JSONTypes = [.null, .boolean, .number, .string, .array, .object]

    static let names: [(String, JSONTypes)] = [
        ("null", .null), ("boolean", .boolean), ("integer", .integer), ("number", .number),
        ("string", .string), ("array", .array), ("object", .object),
    ]

    /// The type of a value.
    init(of value: JSON) {
        switch value {
        case .null: self = .null
        case .bool: self = .boolean
        case .integer: self = .integer
        case .number(let number): self = Int(exactly: number) == nil ? .fraction : .integer
        case .string: self = .string
        case .array: self = .array
        case .object: self = .object
        }
    }

    init(rawValue: UInt8) { self.rawValue = rawValue }
}

/// What some schemas together ask of a value, without references and alternatives.
struct SchemaShape: Sendable {
    struct Property: Sendable {
        let name: String
        /// Schemas that its value obeys, all of them.
        var schemas: [LocatedSchema]
    }

    struct PatternProperty: Sendable {
        let pattern: RegexNode
        let schema: LocatedSchema
    }

    struct Text: Sendable {
        let place: String
        let pattern: RegexNode
        /// Whose pattern it is, if not a schema's own.
        var format: String?
    }

    /// Where the first of the schemas stands.
    var place: String
    var types = JSONTypes.all
    /// `enum` and `const`.
    var values: [JSON]?
    var range = NumberRange()
    var minLength = 0
    var maxLength: Int?
    /// `pattern` and `format`.
    var patterns: [Text] = []
    var prefix: [[LocatedSchema]] = []
    /// Schemas of the items after the prefix.
    var items: [LocatedSchema] = []
    var minItems = 0
    var maxItems: Int?
    var properties: [Property] = []
    var patternProperties: [PatternProperty] = []
    /// Schemas of members that neither `properties` nor `patternProperties` names.
    var additional: [LocatedSchema] = []
    var required: [String] = []
    var minProperties = 0
    var maxProperties: Int?
    /// `false` is among the schemas.
    var isImpossible = false
    /// Something is asked of arrays or objects.
    var limitsContainers = false

    init(place: String) { self.place = place }

    func property(_ name: String) -> Property? { properties.first { $0.name.isSame(as: name) } }
    func requires(_ name: String) -> Bool { required.contains { $0.isSame(as: name) } }

    /// Whether a member of this name may stand in no object.
    func forbids(_ name: String) -> Bool {
        property(name) == nil && patternProperties.isEmpty
            && additional.contains { $0.schema.bool == false }
    }
}

extension LocatedSchema {
    func count(_ keyword: String) throws(GrammarError) -> Int? {
        guard let value = schema[keyword] else { return nil }
        guard let number = value.integer, number >= 0 else {
            throw error(keyword, "it must be an integer, 0 or more")
        }
        guard number <= GrammarLimits.repetitions else {
            throw error(
                keyword, "\(number); at most \(GrammarLimits.repetitions) are supported")
        }
        return number
    }

    /// The least and the most of something; both in one schema must leave something.
    func counts(_ least: String, _ most: String) throws(GrammarError) -> (Int, Int?) {
        let (low, high) = (try count(least) ?? 0, try count(most))
        if let high, low > high {
            throw error(most, "it is \(high), \(least) is \(low): nothing obeys both")
        }
        return (low, high)
    }

    func flag(_ keyword: String) throws(GrammarError) -> Bool {
        guard let value = schema[keyword] else { return false }
        guard let flag = value.bool else { throw error(keyword, "it must be true or false") }
        return flag
    }

    func list(_ keyword: String) throws(GrammarError) -> [LocatedSchema]? {
        guard let value = schema[keyword] else { return nil }
        guard let items = value.array, !items.isEmpty else {
            throw error(keyword, "it must be a list of at least one schema")
        }
        return items.enumerated().map { part(keyword, $0, $1) }
    }

    func map(_ keyword: String) throws(GrammarError) -> [(String, LocatedSchema)] {
        guard let value = schema[keyword] else { return [] }
        guard let members = value.members else { throw error(keyword, "it must be an object") }
        let place = part(keyword, value)
        return members.map { ($0.name, place.part($0.name, $0.value)) }
    }
}
