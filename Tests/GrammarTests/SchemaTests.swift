// SPDX-License-Identifier: Apache-2.0

import Grammar
import Testing

@Suite struct SchemaTests {
    static let obeysCases: [(String, [String], [String])] = [
        (#"{"type":"null"}"#, ["null"], ["", "nul", "null "]),
        (#"{"type":"boolean"}"#, ["true", "false"], ["True", "1"]),
        (#"{"type":["integer","null"]}"#, ["null", "0", "-12"], ["01", "1.0", "-0", "+1"]),
        (
            #"{"type":"number"}"#,
            ["0", "-1.50", "2e5", "1.2E-07", "1e100", "-1e-290", "0e099", "0.00E+9999"],
            [".5", "1.", "1e", "1e291", "1e300", "1e0010", "00", "0.01e999"]
        ),
        (
            #"{"type":"string"}"#,
            [#""""#, #""a\n\"\u00e9\ud83d\uDE00é日😀""#, "\"\u{7F}\""],
            [#""\x""#, #""\ud800""#, #""\udc00""#, "\"\n\"", "\"a"]
        ),
        (
            #"{"type":"string","minLength":2,"maxLength":3}"#,
            [#""ab""#, #""é日😀""#, #""\n\ud83d\ude00""#], [#""a""#, #""abcd""#]
        ),
        (
            #"{"type":"string","pattern":"^[a-z]+$"}"#, [#""abc""#],
            [#""""#, #""aB""#, #""\u0061""#]
        ),
        (#"{"type":"string","pattern":"b"}"#, [#""b""#, #""abc\n""#], [#""ac""#]),
        (
            #"{"type":"string","pattern":"^\"\\\\\\s$"}"#, ["\"\\\"\\\\\\n\"", "\"\\\"\\\\ \""],
            [#""\"\\\u0020""#]
        ),
        (
            #"{"type":"string","pattern":"^(ab)+$","minLength":3,"maxLength":6}"#,
            [#""abab""#, #""ababab""#], [#""ab""#, #""abababab""#]
        ),
        (
            #"{"type":"string","format":"date"}"#,
            [#""2024-02-29""#, #""1999-12-31""#, #""2000-02-29""#],
            [
                #""2023-02-29""#, #""1900-02-29""#, #""0000-01-01""#, #""2024-04-31""#,
                #""2024-13-01""#,
            ]
        ),
        (
            #"{"type":"string","format":"date-time"}"#, [#""2024-02-29T23:59:59.5+01:00""#],
            [#""2024-02-29 10:00:00Z""#, #""2024-02-29T24:00:00Z""#]
        ),
        (
            #"{"type":"string","format":"email"}"#,
            [#""o'neil+x@b--c.museum""#, #""a@b""#, #""\#(String(repeating: "a", count: 70))@b""#],
            [#""a@-b""#, #""a@b-""#, #""a..b@c""#, #"".a@b""#, #""a@b@c""#, #""a b@c""#]
        ),
        (
            #"{"type":"string","format":"hostname"}"#,
            [
                #""a""#, #""a1""#, #""a-1""#, #""a--1""#, #""a-b-c.d""#, #""ab--c""#, #""x""#,
                #""xn""#,
                #""xn1""#, #""XN-1--x""#, #""x-n--1""#, #""nx--1""#,
                #""\#(String(repeating: "x", count: 63)).org""#,
            ],
            [
                #""a-""#, #""-a""#, #""xn--a""#, #""a.Xn--b""#, #""xn-""#, #""x-""#, #""a..b""#,
                #""a.""#, #""a_b""#,
                #""\#(String(repeating: "x", count: 64)).org""#,
            ]
        ),
        (
            #"{"type":"string","format":"ipv6"}"#,
            [
                #""::""#, #""::1""#, #""2001:db8::8a2e:370:7334""#, #""1:2:3:4:5:6:7:8""#,
                #""1:2:3:4:5:6:7::""#,
            ],
            [#""1:2:3:4:5:6:7""#, #""1::2::3""#, #""1:2:3:4:5:6:7:8::""#, #"":1""#, #""12345::""#]
        ),
        (
            #"{"type":"string","format":"uri"}"#,
            [
                #""https://me:pw@example.org:8080/a/b%20c?d=e&f#g""#, #""mailto:a@b.c""#,
                #""urn:x:y""#,
                #""file:///etc""#, #""http:""#,
            ],
            [
                #""example.org""#, #""//a/b""#, #""http://a b""#, #""http://a%2""#, #""http://a<""#,
                #""1a:b""#,
                #""http://é""#, #""http://a#b#c""#,
            ]
        ),
        (
            #"{"type":"string","format":"duration"}"#,
            [#""P1Y2M3DT4H5M6S""#, #""PT36H""#, #""P4W""#, #""P1M""#, #""PT1M""#],
            [#""P""#, #""PT""#, #""P1Y3D""#, #""P1W2D""#, #""1D""#, #""PT1H2S""#, #""P1.5D""#]
        ),
        (
            #"{"type":"number","minimum":0,"maximum":1}"#,
            ["1.0000000000000000", "0.9999999999999999"],
            ["1.0000000000000001", "1.00000000000000000", "1e0"]
        ),
        (
            #"{"type":"number","minimum":0,"exclusiveMaximum":1}"#, ["0.99999999999999"],
            ["0.9999999999999999", "1"]
        ),
        (
            #"{"type":"number","exclusiveMinimum":0}"#,
            ["0.0000000000000001", "9999999999999999.9999999999999999"], ["0", "0.0", "-1"]
        ),
        (
            #"{"type":"string","format":"ipv4"}"#, [#""255.0.10.99""#],
            [#""256.0.0.1""#, #""01.0.0.0""#]
        ),
        (
            #"{"type":"string","format":"uuid"}"#, [#""123e4567-e89b-12d3-A456-426614174000""#],
            [#""123e4567e89b12d3a456426614174000""#]
        ),
        (
            #"{"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3}"#,
            ["[1]", "[1,2]", "[ 1, 2,\n3 ]"], ["[]", "[1,2,3,4]", "[1,]", "[1 ,2]", "[1,  2]"]
        ),
        (#"{"type":"array","items":{"type":"null"}}"#, ["[]", "[null,null]"], ["[ ]", "[1]"]),
        (#"{"type":"array","maxItems":0}"#, ["[]"], ["[1]"]),
        (
            #"{"type":"array","prefixItems":[{"type":"null"},{"type":"integer"}],"items":{"type":"boolean"},"minItems":1}"#,
            ["[null]", "[null,1]", "[null,1,true,false]"],
            ["[]", "[1]", "[null,true]", "[null,1,2]"]
        ),
        (
            #"{"type":"array","prefixItems":[{"type":"null"}],"items":false,"minItems":1}"#,
            ["[null]"], ["[null,null]", "[]"]
        ),
        (
            #"{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"null"}},"required":["b"],"additionalProperties":false}"#,
            [#"{"a":1,"b":null}"#, #"{"b":null}"#, "{\n\"a\": 1,\n\"b\": null\n}"],
            [#"{}"#, #"{"a":1}"#, #"{"b":null,"a":1}"#, #"{"b":null,"c":1}"#, #"{"b":null,}"#]
        ),
        (
            #"{"type":"object","properties":{"a":{"type":"integer"}},"additionalProperties":{"type":"null"}}"#,
            [#"{}"#, #"{"a":1}"#, #"{"b":null}"#, #"{"a":1,"aa":null,"":null}"#],
            [#"{"a":null}"#, #"{"b":1}"#, #"{"\u0061":null}"#, #"{"b":null,"a":1}"#]
        ),
        (#"{"type":"object"}"#, [#"{}"#, #"{"a":[1,{"b":null}]}"#], ["[]", "{ }", #"{"a"}"#]),
        (
            #"{"type":"object","properties":{"a":{},"b":{}},"additionalProperties":false,"minProperties":1,"maxProperties":1}"#,
            [#"{"a":1}"#, #"{"b":1}"#], ["{}", #"{"a":1,"b":1}"#]
        ),
        (
            #"{"type":"object","patternProperties":{"^x-":{"type":"integer"}},"additionalProperties":false}"#,
            ["{}", #"{"x-a":1,"x-":2}"#], [#"{"y":1}"#, #"{"x-a":"b"}"#]
        ),
        (
            #"{"type":"object","properties":{"id":{"type":"null"}},"patternProperties":{"^x":{"type":"integer"},"y$":{"minimum":5}},"additionalProperties":{"type":"string"}}"#,
            [#"{"id":null,"x":1,"xy":7,"y":9,"z":"s"}"#],
            [#"{"xy":4}"#, #"{"x":"s"}"#, #"{"z":1}"#, #"{"id":"s"}"#]
        ),
        (
            #"{"enum":["a",1,null,{"b":[true]}]}"#, [#""a""#, "1", "null", #"{"b":[true]}"#],
            [#""b""#, "2"]
        ),
        (#"{"const":"\u0001\"é"}"#, [#""\u0001\"é""#], [#""\u0001\"e""#]),
        (#"{"type":"integer","enum":["a",1,2.0,2.5]}"#, ["1", "2"], [#""a""#, "2.5"]),
        (#"{"enum":[1,5,9],"minimum":4}"#, ["5", "9"], ["1"]),
        (
            #"{"enum":["a","bb","cc"],"pattern":"^b|c","minLength":2}"#, [#""bb""#, #""cc""#],
            [#""a""#]
        ),
        (#"{"anyOf":[{"type":"integer"},{"const":"x"}]}"#, ["1", #""x""#], ["null"]),
        (#"{"minimum":3,"anyOf":[{"type":"integer"},{"type":"null"}]}"#, ["3", "null"], ["2"]),
        (
            #"{"allOf":[{"type":"object","properties":{"a":{"type":"number"}}},{"properties":{"a":{"type":["integer","null"]}},"required":["a"],"additionalProperties":false}]}"#,
            [#"{"a":1}"#], [#"{"a":null}"#, "{}", #"{"a":1.5}"#, #"{"a":1,"b":2}"#]
        ),
        (
            #"{"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"x":{"type":"null"}},"required":["k","x"],"additionalProperties":false},{"type":"object","properties":{"k":{"const":"b"}},"required":["k"],"additionalProperties":false}]}"#,
            [#"{"k":"a","x":null}"#, #"{"k":"b"}"#], [#"{"k":"a"}"#, #"{"k":"b","x":null}"#]
        ),
        (
            ##"{"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"v":{"type":"integer"},"kids":{"type":"array","items":{"$ref":"#/$defs/tree"}}},"required":["v"],"additionalProperties":false}}}"##,
            [#"{"v":1}"#, #"{"v":1,"kids":[{"v":2},{"v":3,"kids":[]}]}"#], [#"{"kids":[]}"#]
        ),
        (
            ##"{"properties":{"a/b~ c":{"$ref":"#/properties/x%20y"},"x y":{"type":"null"}},"type":"object","additionalProperties":false}"##,
            [#"{"a/b~ c":null}"#], [#"{"a/b~ c":1}"#]
        ),
        (#"{"type":"integer","multipleOf":1,"title":"t","x-order":3}"#, ["7"], ["7.0"]),
        ("true", ["null", "[1]", #"{"a":"b"}"#], [""]),
    ]

    @Test(
        "a schema allows texts that obey it, and no others",
        arguments: obeysCases)
    func obeys(_ schema: String, _ good: [String], _ bad: [String]) throws {
        for text in good { #expect(try GrammarSource.schema(schema).accepts(text), "\(text)") }
        for text in bad { #expect(try !GrammarSource.schema(schema).accepts(text), "\(text)") }
    }

    @Test("lengths that a format keeps by itself cost nothing, and those that it does not are kept")
    func lengthsOfFormats() throws {
        let email = GrammarSource.schema(
            #"{"type":"string","format":"email","minLength":3,"maxLength":254}"#)
        #expect(try email.accepts(#""a.b@c-d.org""#))
        #expect(try !email.accepts(#""a.b@-d""#))
        for most in [15, 30, 100, 320] {
            let bounded = GrammarSource.schema(
                #"{"type":"string","format":"email","maxLength":\#(most)}"#)
            #expect(try bounded.accepts(#""a@b.c""#))
            #expect(try !bounded.accepts(#""a..b@c""#))
            #expect(try !bounded.accepts(#""\#(String(repeating: "a", count: most))@b.c""#))
        }
        let page = GrammarSource.schema(#"{"type":"string","format":"uri","maxLength":255}"#)
        #expect(try page.accepts(#""https://a.org/b/c""#))
        #expect(try !page.accepts(#""https://a.org/b c""#))
        let short = GrammarSource.schema(
            #"{"type":"string","pattern":"^[ab]+$","minLength":2,"maxLength":3}"#)
        #expect(try short.accepts(#""aba""#))
        #expect(try !short.accepts(#""a""#))
        #expect(try !short.accepts(#""abab""#))
    }

    @Test("what takes too long to compile is refused, soon")
    func expensive() throws {
        let ambiguous = GrammarSource.schema(
            #"{"type":"string","pattern":"^(a|b)*a(a|b){12}$","maxLength":500}"#)
        #expect(ambiguous.refusal?.contains("1500000 steps to intersect") == true)
        let names = (0..<400).map { #""p\#($0)":true"# }.joined(separator: ",")
        let counted = GrammarSource.schema(
            #"{"type":"object","properties":{\#(names)},"maxProperties":40}"#)
        #expect(counted.refusal?.hasPrefix("#: 400 properties counted up to 40") == true)
    }

    @Test("json_object is any JSON object")
    func anyObject() throws {
        #expect(
            try GrammarSource.jsonObject.accepts(#"{"a": [1.5e3, {"b": null}], "\u00e9": "x"}"#))
        #expect(try !GrammarSource.jsonObject.accepts("[]"))
        #expect(try !GrammarSource.jsonObject.accepts("1"))
    }

    static let refusesCases: [(String, String)] = [
        (#"{"not":{}}"#, "#/not: this keyword is not supported"),
        (
            #"{"properties":{"a/b":{"if":{}}},"type":"object"}"#,
            "#/properties/a~1b/if: this keyword is not supported"
        ),
        (
            #"{"type":"object","unevaluatedProperties":false}"#,
            "#/unevaluatedProperties: this keyword"
        ),
        (#"{"type":"strng"}"#, "#/type: '\"strng\"' is no type of JSON Schema"),
        (
            #"{"minLength":3,"maxLength":2}"#,
            "#/maxLength: it is 2, minLength is 3: nothing obeys both"
        ),
        (#"{"minimum":3,"maximum":2}"#, "#: its minimum is above its maximum"),
        (
            #"{"exclusiveMinimum":true}"#,
            "#/exclusiveMinimum: it must be a finite number, not a boolean"
        ),
        (#"{"multipleOf":3}"#, "#/multipleOf: 3: only 1 is supported"),
        (
            #"{"type":"string","format":"iri"}"#,
            "#/format: 'iri' is not supported; supported are date, "
        ),
        (#"{"type":"string","pattern":"a(?=b)"}"#, "#/pattern: byte 1: only (…)"),
        (#"{"type":"array","uniqueItems":true}"#, "#/uniqueItems: it is supported with maxItems"),
        (##"{"$ref":"other.json"}"##, "#/$ref: 'other.json': only \"#\" and JSON pointers"),
        (##"{"$ref":"#/a"}"##, "#/$ref: '#/a' leads nowhere"),
        (##"{"$ref":"#"}"##, "#: it refers to itself"),
        (##"{"anyOf":[{"$ref":"#"},{"type":"null"}]}"##, "#: it refers to itself"),
        (
            #"{"allOf":[{"type":"null"},{"type":"string"}]}"#,
            "#: its schemas have no type in common"
        ),
        (#"{"type":"null","const":1}"#, "#: none of the values obeys the rest of the schema"),
        ("false", "#: the schema is false: nothing obeys it"),
        (
            #"{"oneOf":[{"type":"integer"},{"type":"number"}]}"#,
            "#/oneOf: a value may obey schemas 0 and 1"
        ),
        (
            ##"{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}"##,
            "#: no text can be complete"
        ),
        (
            #"{"type":"object","properties":{"a":false},"required":["a"]}"#,
            "#/properties/a: the schema is false"
        ),
        (#"{"type":"object","minProperties":2}"#, "#/minProperties: 2, with 0 properties"),
        (#"{"$schema":"http://example.com"}"#, "#/$schema: an unknown dialect"),
        (
            ##"{"$schema":"http://json-schema.org/draft-07/schema#","$ref":"#/definitions/a","minimum":1,"definitions":{"a":{}}}"##,
            "#/minimum: drafts up to 7 ignore what stands beside $ref"
        ),
        (#"{"items":3}"#, "#/items: a schema is an object, true or false, not a number"),
        (#"{"type":"string""#, "byte 16: not a JSON document: ',' or '}' is missing"),
        (
            #"{"a":1,"a":2}"#,
            "byte 10: not a JSON document: the member \"a\" comes twice in one object"
        ),
        (#"{"enum":[]}"#, "#/enum: it must be a list of at least one value"),
        (#"{"required":"a"}"#, "#/required: it must be a list"),
    ]

    @Test(
        "what is not supported, or contradicts itself, is refused by its place",
        arguments: refusesCases)
    func refuses(_ schema: String, _ problem: String) throws {
        let refusal = try #require(GrammarSource.schema(schema).refusal)
        #expect(refusal.hasPrefix(problem), "\(refusal)")
    }

    static let integersCases: [(String, Int, Int)] = [
        (#""minimum":3,"maximum":17"#, 3, 17),
        (#""exclusiveMinimum":-13,"exclusiveMaximum":105"#, -12, 104),
        (#""minimum":-250,"maximum":-9"#, -250, -9), (#""minimum":0.5,"maximum":99.5"#, 1, 99),
        (#""minimum":-2.5,"maximum":0"#, -2, 0), (#""minimum":98,"maximum":1002"#, 98, 1002),
    ]

    @Test(
        "integers between bounds are all those between them",
        arguments: integersCases)
    func integers(_ bounds: String, _ low: Int, _ high: Int) throws {
        let start = try compile(.schema(#"{"type":"integer",\#(bounds)}"#)).start
        for value in low - 120...high + 120 {
            var constraint = start
            let isTaken = try constraint.take(Array(String(value).utf8)[...])
            #expect((isTaken && constraint.isComplete) == (low...high).contains(value), "\(value)")
        }
    }

    static let decimalsCases: [(String, Double, Double, Bool)] = [
        (#""minimum":0,"maximum":1"#, 0.0, 1.0, true),
        (#""minimum":-1.25,"maximum":0.5"#, -1.25, 0.5, true),
        (#""exclusiveMinimum":0.1,"exclusiveMaximum":0.32"#, 0.1, 0.32, false),
        (#""exclusiveMinimum":-2,"exclusiveMaximum":-0.01"#, -2, -0.01, false),
        (#""minimum":1.05,"maximum":1.05"#, 1.05, 1.05, true),
        (#""minimum":9.5,"maximum":12"#, 9.5, 12, true),
        (#""minimum":1e-3,"maximum":2E0"#, 0.001, 2, true),
    ]

    @Test(
        "decimals between bounds are all those between them",
        arguments: decimalsCases)
    func decimals(_ bounds: String, _ low: Double, _ high: Double, _ isIncluded: Bool) throws {
        let start = try compile(.schema(#"{"type":"number",\#(bounds)}"#)).start
        for thousandths in -3000...13000
        where thousandths % 7 == 0 || abs(thousandths) % 10 == 0 || abs(thousandths) < 400 {
            let sign = thousandths < 0 ? "-" : ""
            let digits = String(abs(thousandths) % 1000 + 1000).dropFirst()
            let text = "\(sign)\(abs(thousandths) / 1000).\(digits)"
            let value = try #require(Double(text))
            let isInside = isIncluded ? low <= value && value <= high : low < value && value < high
            var constraint = start
            let isTaken = try constraint.take(Array(text.utf8)[...])
            #expect((isTaken && constraint.isComplete) == isInside, "\(text)")
        }
    }
}
