// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// What is known of each keyword: docs/grammar.md has the table.
enum SchemaKeywords {
    /// They say nothing about which values are valid.
    static let annotations: Set<String> = [
        "title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly",
        "$comment", "$defs", "definitions", "discriminator",
    ]

    static let supported: Set<String> = [
        "$schema", "$id", "$ref", "type", "enum", "const", "allOf", "anyOf", "oneOf",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
        "minLength", "maxLength", "pattern", "format",
        "prefixItems", "items", "additionalItems", "minItems", "maxItems", "uniqueItems",
        "properties", "required", "additionalProperties", "patternProperties",
        "minProperties", "maxProperties",
    ]

    /// Refuses what would be ignored.
    static func check(_ located: LocatedSchema) throws(GrammarError) {
        guard let members = located.schema.members else {
            throw located.error(
                "", "a schema is an object, true or false, not \(located.schema.kind)")
        }
        for member in members {
            let name = member.name
            if annotations.contains(name) || name.hasPrefix("x-") { continue }
            guard supported.contains(name) else {
                throw located.error(name, "this keyword is not supported")
            }
        }
        if located.schema["$id"] != nil, located.place != "#" {
            throw located.error("$id", "it is supported at the root only")
        }
    }
}

extension SchemaShape {
    /// Adds what one schema asks by its own keywords.
    mutating func add(_ located: LocatedSchema) throws(GrammarError) {
        if let flag = located.schema.bool {
            if !flag { isImpossible = true }
            return
        }
        try addTypes(located)
        try addValues(located)
        try range.add(located)
        try addText(located)
        try addItems(located)
        try addMembers(located)
    }

    private mutating func addTypes(_ located: LocatedSchema) throws(GrammarError) {
        guard let value = located.schema["type"] else { return }
        var named: JSONTypes = []
        for name in value.array ?? [value] {
            guard let text = name.string,
                let (_, type) = JSONTypes.names.first(where: { $0.0 == text })
            else { throw located.error("type", "'\(name.brief)' is no type of JSON Schema") }
            named.formUnion(type)
        }
        guard !named.isEmpty else { throw located.error("type", "no type is left") }
        types.formIntersection(named)
    }

    private mutating func addValues(_ located: LocatedSchema) throws(GrammarError) {
        func add(_ new: [JSON]) {
            values =
                values.map { old in old.filter { value in new.contains { $0.isSame(as: value) } } }
                ?? new
        }
        if let value = located.schema["const"] { add([value]) }
        guard let list = located.schema["enum"] else { return }
        guard let items = list.array, !items.isEmpty else {
            throw located.error("enum", "it must be a list of at least one value")
        }
        add(items)
    }

    private mutating func addText(_ located: LocatedSchema) throws(GrammarError) {
        let (least, most) = try located.counts("minLength", "maxLength")
        minLength = max(minLength, least)
        maxLength = [maxLength, most].compactMap { $0 }.min()
        if let value = located.schema["pattern"] {
            guard let text = value.string else {
                throw located.error("pattern", "it must be a string")
            }
            do {
                let node = try RegexParser.parse(Array(text.utf8)).anchored(searches: true)
                patterns.append(Text(place: located.part("pattern", value).place, pattern: node))
            } catch { throw located.error("pattern", "\(error)") }
        }
        if let value = located.schema["format"] {
            guard let name = value.string else {
                throw located.error("format", "it must be a string")
            }
            guard let node = SchemaFormats.pattern(name) else {
                throw located.error(
                    "format",
                    "'\(name.quoted)' is not supported; supported are \(SchemaFormats.names)")
            }
            patterns.append(
                Text(
                    place: located.part("format", value).place, pattern: node, format: name))
        }
    }

    private mutating func addItems(_ located: LocatedSchema) throws(GrammarError) {
        let (least, most) = try located.counts("minItems", "maxItems")
        minItems = max(minItems, least)
        maxItems = [maxItems, most].compactMap { $0 }.min()
        if try located.flag("uniqueItems"), (most ?? 2) > 1 {
            throw located.error(
                "uniqueItems", "it is supported with maxItems of 0 or 1 only")
        }
        var own = try located.list("prefixItems")
        var rest = located.schema["items"].map { located.part("items", $0) }
        let more = located.schema["additionalItems"].map { located.part("additionalItems", $0) }
        if case .array(let list)? = located.schema["items"] {
            guard own == nil else {
                throw located.error("items", "a list beside prefixItems: write one schema")
            }
            // As drafts up to 2019-09 have it.
            own = list.enumerated().map { located.part("items", $0, $1) }
            rest = more
        } else if more != nil {
            throw located.error("additionalItems", "it means something beside a list of items only")
        }
        limitsContainers = limitsContainers || own != nil || rest != nil || least > 0 || most != nil
        guard own != nil || rest != nil else { return }
        let new = own ?? []
        for index in 0..<max(prefix.count, new.count) {
            if index == prefix.count { prefix.append(items) }
            if index < new.count {
                prefix[index].append(new[index])
            } else if let rest {
                prefix[index].append(rest)
            }
        }
        if let rest { items.append(rest) }
    }

    private mutating func addMembers(_ located: LocatedSchema) throws(GrammarError) {
        let (least, most) = try located.counts("minProperties", "maxProperties")
        minProperties = max(minProperties, least)
        maxProperties = [maxProperties, most].compactMap { $0 }.min()
        if let value = located.schema["required"] {
            guard let names = value.array else {
                throw located.error("required", "it must be a list")
            }
            for name in names {
                guard let name = name.string else {
                    throw located.error("required", "it must be a list of names")
                }
                if !requires(name) { required.append(name) }
            }
            limitsContainers = limitsContainers || !names.isEmpty
        }
        let own = try located.map("properties")
        let ownPatterns = try located.map("patternProperties")
        let more = located.schema["additionalProperties"].map {
            located.part("additionalProperties", $0)
        }
        limitsContainers =
            limitsContainers || !own.isEmpty || !ownPatterns.isEmpty || more != nil || least > 0
            || most != nil
        let isJoined =
            ownPatterns.isEmpty
            ? !patternProperties.isEmpty && (!own.isEmpty || more != nil)
            : !properties.isEmpty || !additional.isEmpty || !patternProperties.isEmpty
        guard !isJoined else {
            throw located.error(
                "patternProperties", "it cannot be joined with another schema of the same object")
        }
        for (name, schema) in own {
            if let index = properties.firstIndex(where: { $0.name.isSame(as: name) }) {
                properties[index].schemas.append(schema)
            } else {
                properties.append(Property(name: name, schemas: additional + [schema]))
            }
        }
        if let more {
            for index in properties.indices
            where !own.contains(where: { $0.0.isSame(as: properties[index].name) }) {
                properties[index].schemas.append(more)
            }
            additional.append(more)
        }
        for (text, schema) in ownPatterns {
            do {
                let node = try RegexParser.parse(Array(text.utf8)).anchored(searches: true)
                patternProperties.append(PatternProperty(pattern: node, schema: schema))
            } catch { throw GrammarError(schema.place, "\(error)") }
        }
    }
}
