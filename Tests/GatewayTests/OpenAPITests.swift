// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import ModelStore
import Testing

@testable import Gateway

@Suite("openapi.json")
struct OpenAPITests {
    let document: JSON
    let schemas: Schemas

    init() throws {
        document = try JSON(parsing: PackageResources.openapi_json)
        schemas = Schemas(components: try #require(document["components"]?["schemas"]))
    }

    @Test("GET /openapi.json is this document")
    func served() async throws {
        try await withGateway { rig in
            let answer = try await rig.get("/openapi.json")
            #expect(answer.status == 200)
            #expect(answer.headers["content-type"] == "application/json")
            #expect(try answer.json.isSame(as: document))
        }
    }

    @Test("it has every route with its method, and no other")
    func routes() throws {
        var found: [String: [String]] = [:]
        for path in try #require(document["paths"]?.members) {
            let item = schemas.resolved(path.value, in: document)
            found[path.name] = item.members?.map(\.name).filter { $0 != "parameters" }
        }
        var known = ["\(Route.modelPath){model}": ["get"]]
        for entry in Route.paths {
            for path in entry.spellings { known[path] = [entry.isRead ? "get" : "post"] }
        }
        #expect(found == known)
    }

    @Test("every reference leads somewhere")
    func references() throws {
        func check(_ value: JSON) {
            if let name = value["$ref"]?.string {
                #expect(schemas.resolved(value, in: document)["$ref"] == nil, "\(name)")
            }
            for member in value.members ?? [] { check(member.value) }
            for item in value.array ?? [] { check(item) }
        }
        check(document)
    }

    /// An object of a request: what surrounds its members, and those that are there unless another value is tried.
    struct Place: CustomTestStringConvertible, Sendable {
        let path: String
        let schema: String
        var before = "{"
        var base: [(name: String, text: String)] = []
        /// With a member that nothing knows: it is what is refused when all else is accepted, so that nothing is computed.
        var after = #","made_up":1}"#
        var testDescription: String { "\(path) \(schema)" }

        func body(_ name: String, _ value: String?) -> String {
            var members = base.filter { $0.name != name }
            if let value { members.append((name, value)) }
            let list = members.map { "\"\($0.name)\":\($0.text)" }.joined(separator: ",")
            return before + (list.isEmpty && after.hasPrefix(",") ? "\"none\":null" : list) + after
        }
    }

    static let messages = #"[{"role":"user","content":"a"}]"#
    static let places = [
        Place(
            path: "/v1/completions", schema: "CompletionRequest",
            base: [("prompt", #""a""#), ("stream", "true")]),
        Place(
            path: "/v1/completions", schema: "StreamOptions",
            before: #"{"prompt":"a","stream":true,"stream_options":{"#, after: #"},"made_up":1}"#),
        Place(
            path: "/v1/chat/completions", schema: "ChatRequest",
            base: [("messages", messages), ("stream", "true"), ("logprobs", "true")]),
        Place(
            path: "/v1/chat/completions", schema: "Message", before: #"{"messages":[{"#,
            base: [("role", #""user""#)], after: #"}],"made_up":1}"#),
        Place(
            path: "/v1/chat/completions", schema: "TextPart",
            before: #"{"messages":[{"role":"user","content":[{"#, base: [("type", #""text""#)],
            after: #"}]}],"made_up":1}"#),
        Place(
            path: "/v1/embeddings", schema: "EmbeddingsRequest", base: [("input", #""a""#)]),
        Place(path: "/tokenize", schema: "LlamaTokenizeRequest", base: [("content", #""a""#)]),
        Place(path: "/tokenize", schema: "VLLMTokenizeRequest", base: [("prompt", #""a""#)]),
        Place(path: "/detokenize", schema: "DetokenizeRequest", base: [("tokens", "[1]")]),
        Place(path: "/api/show", schema: "OllamaShowRequest"),
        Place(
            path: "/api/generate", schema: "OllamaGenerateRequest", base: [("prompt", #""a""#)]),
        Place(
            path: "/api/generate", schema: "OllamaOptions", before: #"{"options":{"#,
            after: #"},"made_up":1}"#),
        Place(
            path: "/api/chat", schema: "OllamaChatRequest", base: [("messages", messages)]),
        Place(path: "/api/embed", schema: "OllamaEmbedRequest", base: [("input", #""a""#)]),
        Place(
            path: "/api/embeddings", schema: "OllamaEmbeddingsRequest",
            base: [("prompt", #""a""#)]),
    ]

    static let values = [
        "null", "true", "false", "0", "1", "-1", "0.5", #""""#, #""a""#, #""none""#,
        #""text""#, #""auto""#, #""json""#, #""base64""#, #""user""#, "[]", "[1]", "[1.5]", "[-1]",
        #"["a"]"#, #"["text"]"#, #"["a",1]"#, "[[1]]", "[null]", "{}", #"{"a":1}"#,
        #"{"1":1}"#, #"{"01":1}"#, #"{"1":-101}"#, #"[{"type":"text","text":"a"}]"#,
        #"[{"role":"user"}]"#, #"[{"content":"a"}]"#, #"{"type":"text"}"#,
        #"{"type":"json_object","a":1}"#, #"{"type":"json_schema"}"#,
        #"{"type":"json_schema","json_schema":{"schema":{}}}"#,
        #"{"include_usage":true}"#,
    ]

    @Test("it allows what the gateway takes, and nothing that it refuses", arguments: places)
    func members(_ place: Place) async throws {
        let schema = try #require(schemas[place.schema])
        let properties = try #require(schema["properties"]?.members)
        let required = schema["required"]?.array?.compactMap(\.string) ?? []
        let configure = { (gateway: inout GatewayConfiguration) in
            gateway.takesEmbeddingTokens = true
        }
        try await withGateway([:], configure) { rig in
            let socket = try rig.connect()
            func accepts(_ name: String, _ value: String?) async throws -> Bool {
                try await socket.send("POST", place.path, body: place.body(name, value))
                let answer = try await socket.answer()
                #expect(answer.status == 400)
                let message = try answer.error.message ?? answer.json["error"]?.string
                return message?.hasPrefix("made_up: it is not known here") == true
            }
            for property in properties {
                var values = Self.values
                for bound in ["minimum", "maximum"] {
                    guard let limit = schemas.resolved(property.value)[bound] else { continue }
                    values.append(limit.brief)
                    // Beyond an Int64 there is nothing to add to.
                    guard let number = limit.number, abs(number) < 1e18 else { continue }
                    values.append("\(number + (bound == "minimum" ? -1 : 1))")
                }
                for value in values {
                    let isAllowed = schemas.allows(
                        property.value, try JSON(parsing: Array(value.utf8)))
                    let isAccepted = try await accepts(property.name, value)
                    #expect(isAccepted == isAllowed, "\(property.name): \(value)")
                }
                let isOptional = try await accepts(property.name, nil)
                #expect(isOptional == !required.contains(property.name), "no \(property.name)")
            }
            for name in schemas.memberNames.subtracting(properties.map(\.name)) {
                let isKnown = try await accepts(name, "1")
                #expect(!isKnown, "\(name) is accepted, and not in the document")
                // None of those that say why they are refused, either.
                let isNothing = try await accepts(name, "null")
                #expect(isNothing, "\(name)")
            }
        }
    }
}

/// As much of JSON Schema as the document needs.
struct Schemas {
    let components: JSON

    subscript(name: String) -> JSON? { components[name] }

    /// Names of members that any request has.
    var memberNames: Set<String> {
        Set(
            (components.members ?? []).filter { $0.name.hasSuffix("Request") }
                .flatMap { $0.value["properties"]?.members?.map(\.name) ?? [] })
    }

    /// What a reference leads to.
    func resolved(_ value: JSON, in document: JSON? = nil) -> JSON {
        guard let path = value["$ref"]?.string else { return value }
        let steps = path.split(separator: "/").dropFirst().map(String.init)
        if let document { return steps.reduce(document) { $0[$1] ?? value } }
        return components[steps.last ?? ""] ?? value
    }

    func allows(_ schema: JSON, _ value: JSON) -> Bool {
        let schema = resolved(schema)
        if let choices = schema["anyOf"]?.array, !choices.contains(where: { allows($0, value) }) {
            return false
        }
        if let all = schema["enum"]?.array, !all.contains(where: { $0.isSame(as: value) }) {
            return false
        }
        if let only = schema["const"], !only.isSame(as: value) { return false }
        if let type = schema["type"] {
            let types = type.array?.compactMap(\.string) ?? [type.string ?? ""]
            guard types.contains(where: { Self.isType($0, value) }) else { return false }
        }
        return allowsNumber(schema, value) && allowsItems(schema, value)
            && allowsMembers(schema, value)
    }

    private static func isType(_ type: String, _ value: JSON) -> Bool {
        switch type {
        case "null": value.isNull
        case "boolean": value.bool != nil
        case "integer": value.integer != nil
        case "number": value.number != nil
        case "string": value.string != nil
        case "array": value.array != nil
        case "object": value.members != nil
        default: false
        }
    }

    private func allowsNumber(_ schema: JSON, _ value: JSON) -> Bool {
        guard let number = value.number else { return true }
        return number >= schema["minimum"]?.number ?? number
            && number <= schema["maximum"]?.number ?? number
    }

    private func allowsItems(_ schema: JSON, _ value: JSON) -> Bool {
        guard let items = value.array else { return true }
        return items.count >= schema["minItems"]?.integer ?? 0
            && items.count <= schema["maxItems"]?.integer ?? items.count
            && items.allSatisfy { allows(schema["items"] ?? .object([]), $0) }
    }

    private func allowsMembers(_ schema: JSON, _ value: JSON) -> Bool {
        guard let members = value.members else { return true }
        let required = schema["required"]?.array?.compactMap(\.string) ?? []
        guard required.allSatisfy({ value[$0] != nil }) else { return false }
        // Of patterns the document has one: numbers without zeros before them.
        let isNumbered = schema["propertyNames"] != nil
        return members.allSatisfy { member in
            if isNumbered, UInt32(member.name).map(String.init) != member.name { return false }
            let property = schema["properties"]?[member.name]
            return allows(property ?? schema["additionalProperties"] ?? .object([]), member.value)
        }
    }
}
