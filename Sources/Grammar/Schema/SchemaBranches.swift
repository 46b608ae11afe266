// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// Schemas without their references and alternatives.
struct SchemaBranches {
    let document: SchemaDocument

    /// The most alternatives that schemas may multiply to.
    private static let limit = 256

    /// Everything that a value may obey so as to obey all of `schemas`: one of the shapes.
    func shapes(_ schemas: [LocatedSchema]) throws(GrammarError) -> [SchemaShape] {
        let place = schemas.first?.place ?? "#"
        var shapes: [SchemaShape] = []
        for branch in try alternatives(schemas) {
            var shape = SchemaShape(place: place)
            for schema in branch { try shape.add(schema) }
            shapes.append(shape)
        }
        return shapes
    }

    /// Lists of schemas, each to be taken by its own keywords alone.
    private func alternatives(
        _ schemas: [LocatedSchema]
    ) throws(GrammarError) -> [[LocatedSchema]] {
        var all: [[LocatedSchema]] = [[]]
        for schema in schemas {
            all = try Self.product(all, try alternatives(of: schema, path: []), schema)
        }
        return all
    }

    private static func product(
        _ left: [[LocatedSchema]], _ right: [[LocatedSchema]], _ at: LocatedSchema
    ) throws(GrammarError) -> [[LocatedSchema]] {
        guard left.count * right.count <= limit else {
            throw at.error("", "its alternatives multiply to more than \(limit)")
        }
        return left.flatMap { first in
            right.map { second in
                first + second.filter { new in !first.contains { $0.place == new.place } }
            }
        }
    }

    /// - Parameter path: the schemas that led here without reading a byte.
    private func alternatives(
        of schema: LocatedSchema, path: [String]
    ) throws(GrammarError) -> [[LocatedSchema]] {
        if schema.schema.bool != nil { return [[schema]] }
        try SchemaKeywords.check(schema)
        guard !path.contains(schema.place) else {
            throw schema.error("", "it refers to itself: no value decides whether it is obeyed")
        }
        let path = path + [schema.place]
        var all = [[schema]]
        if let value = schema.schema["$ref"] {
            try checkRefStandsAlone(schema)
            let target = try document.resolve(schema, value)
            all = try Self.product(all, try alternatives(of: target, path: path), schema)
        }
        for part in try schema.list("allOf") ?? [] {
            all = try Self.product(all, try alternatives(of: part, path: path), schema)
        }
        for (keyword, isExclusive) in [("anyOf", false), ("oneOf", true)] {
            guard let parts = try schema.list(keyword) else { continue }
            var groups: [[[LocatedSchema]]] = []
            for part in parts { groups.append(try alternatives(of: part, path: path)) }
            if isExclusive { try checkDisjoint(schema, groups) }
            all = try Self.product(all, groups.flatMap { $0 }, schema)
        }
        return all
    }

    private func checkRefStandsAlone(_ schema: LocatedSchema) throws(GrammarError) {
        guard document.refsStandAlone else { return }
        for member in schema.schema.members ?? []
        where !SchemaKeywords.annotations.contains(member.name)
            && !["$ref", "$schema", "$id"].contains(member.name)
        {
            throw schema.error(
                member.name, "drafts up to 7 ignore what stands beside $ref; use allOf")
        }
    }

    // MARK: Exactly one

    /// `oneOf` is `anyOf` where no value can obey two of the schemas; where some may, it is refused.
    private func checkDisjoint(
        _ schema: LocatedSchema, _ groups: [[[LocatedSchema]]]
    ) throws(GrammarError) {
        var shapes: [[SchemaShape]] = []
        for group in groups {
            var list: [SchemaShape] = []
            for branch in group {
                var shape = SchemaShape(place: schema.place)
                for part in [schema] + branch { try shape.add(part) }
                list.append(shape)
            }
            shapes.append(list)
        }
        for first in shapes.indices {
            for second in shapes.indices where first < second {
                for a in shapes[first] {
                    for b in shapes[second] where try !areDisjoint(a, b, depth: 0) {
                        throw schema.error(
                            "oneOf",
                            "a value may obey schemas \(first) and \(second); tell them apart by type or a required constant, or use anyOf"
                        )
                    }
                }
            }
        }
    }

    /// Whether it is certain that no value obeys both.
    private func areDisjoint(
        _ a: SchemaShape, _ b: SchemaShape, depth: Int
    ) throws(GrammarError) -> Bool {
        if a.isImpossible || b.isImpossible { return true }
        var common = a.types.intersection(b.types)
        if let x = a.values, let y = b.values {
            return !x.contains { value in y.contains { $0.isSame(as: value) } }
        }
        if let values = a.values ?? b.values {
            common = common.intersection(
                values.reduce(into: []) { $0.formUnion(JSONTypes(of: $1)) })
        }
        if a.range.isDisjoint(from: b.range) { common.subtract(.number) }
        if let most = a.maxLength, most < b.minLength { common.remove(.string) }
        if let most = b.maxLength, most < a.minLength { common.remove(.string) }
        if let most = a.maxItems, most < b.minItems { common.remove(.array) }
        if let most = b.maxItems, most < a.minItems { common.remove(.array) }
        if common.contains(.object), try haveDisjointMembers(a, b, depth) { common.remove(.object) }
        return common.isEmpty
    }

    private func haveDisjointMembers(
        _ a: SchemaShape, _ b: SchemaShape, _ depth: Int
    ) throws(GrammarError) -> Bool {
        if a.required.contains(where: { b.forbids($0) }) { return true }
        if b.required.contains(where: { a.forbids($0) }) { return true }
        guard depth < 4 else { return false }
        for name in a.required where b.requires(name) {
            guard let x = a.property(name), let y = b.property(name) else { continue }
            var overlaps = false
            for first in try shapes(x.schemas) {
                for second in try shapes(y.schemas)
                where try !areDisjoint(first, second, depth: depth + 1) { overlaps = true }
            }
            if !overlaps { return true }
        }
        return false
    }
}
