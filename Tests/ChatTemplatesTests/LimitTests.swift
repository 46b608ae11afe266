// SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import Testing

@testable import ChatTemplates

@Suite("A hostile template neither hangs nor crashes")
struct LimitTests {
    private static func times(_ text: String, _ count: Int) -> String {
        String(repeating: text, count: count)
    }

    static let hostile: [(String, String)] = [
        ("source", times("x", 256 << 10 | 1)),
        ("parentheses", "{{ " + times("(", 100_000) + times(")", 100_000) + " }}"),
        ("unclosed parentheses", "{{ " + times("(", 200_000)),
        ("lists", "{{ " + times("[", 50_000) + times("]", 50_000) + " }}"),
        ("a long sum", "{{ 1" + times("+1", 100_000) + " }}"),
        ("a long path", "{{ x" + times(".a", 100_000) + " }}"),
        ("negations", "{{ " + times("not ", 50_000) + "1 }}"),
        ("signs", "{{ " + times("-", 200_000) + "1 }}"),
        ("filters", "{{ x" + times("|upper", 40_000) + " }}"),
        ("conditions", "{{ 1" + times(" if 1 else 1", 20_000) + " }}"),
        ("blocks", times("{% if 1 %}", 20_000)),
        ("loops", times("{% for x in range(99999) %}", 8) + times("{% endfor %}", 8)),
        ("a macro that calls itself", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
        (
            "two macros that call each other",
            "{% macro a() %}{% for x in [1] %}{% if 1 %}{{ b() ~ '' }}{% endif %}{% endfor %}{% endmacro %}{% macro b() %}{% call a() %}{% endcall %}{{ [[a()]] }}{% endmacro %}{{ a() }}"
        ),
        (
            "text that grows",
            "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}"
        ),
        ("repeated text", "{{ 'abcdefgh' * 9223372036854775807 }}"),
        ("repeated lists", "{{ ([1] * 100000000) | length }}"),
        ("text for each character", "{{ ('a' * 1000000) | replace('', 'b' * 1000000) }}"),
        (
            "values in values",
            "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}"
        ),
        (
            "filters on filters",
            "{% set ns = namespace(x=['a']) %}{% for i in range(9999) %}{% set ns.x = ns.x | map('upper') %}{% endfor %}{{ ns.x | list }}"
        ),
        ("a namespace in itself", "{% set ns = namespace() %}{% set ns.x = ns %}"),
        ("a wide indent", "{{ 'a\\nb' | indent(900000000000) }}"),
        ("a deep indent of JSON", "{{ [[[[1]]]] | tojson(indent=999999999) }}"),
        ("large ranges", "{{ range(0, 9223372036854775807) | list }}"),
        ("powers", "{{ 10 ** 10 ** 10 }}"),
        (
            "output",
            "{% for i in range(99999) %}{{ 'abcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefghabcdefgh' }}{% endfor %}"
        ),
    ]

    @Test("each is refused", arguments: hostile)
    func refused(_ name: String, _ source: String) {
        let error = #expect(throws: TemplateError.self) {
            try ChatTemplate(source).render(["x": "a"], time: .now, steps: 300_000)
        }
        #expect(error?.kind != .raised, "\(error.map { "\($0)" } ?? "")")
    }

    @Test("values from outside are refused when they are nested too deep")
    func deepValues() {
        var value: TemplateValue = 1
        for _ in 0..<101 { value = .list([value]) }
        #expect(throws: TemplateError.self) { try ChatTemplate("{{ x }}").render(["x": value]) }
    }

    /// As deep as the limits allow, in a thread with the stack that Linux gives one by default.
    @Test("what is allowed fits a stack of 8 MiB")
    func stack() throws {
        let nested =
            Self.times("{% if 1 %}", 48)
            + "{{ " + Self.times("[", 48) + "1" + Self.times("]", 48) + " }}"
            + Self.times("{% endif %}", 48)
        let recursive = "{% macro m(n) %}{{ m(n - 1) if n }}{% endmacro %}{{ m(9999) }}"
        let results = Mutex<[String]>([])
        let body: @Sendable () -> Void = {
            for source in [nested, recursive] {
                let text: String
                do throws(TemplateError) {
                    text = try ChatTemplate(source).render([:])
                } catch { text = error.message }
                results.withLock { $0.append(text) }
            }
        }
        try Self.run(stack: 8 << 20, body)
        let texts = results.withLock { $0 }
        #expect(texts.first == Self.times("[", 48) + "1" + Self.times("]", 48))
        #expect(texts.last?.hasPrefix("macros and blocks within each other") == true)
    }

    private static func run(stack: Int, _ body: @escaping @Sendable () -> Void) throws {
        final class Box: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        let attributes = UnsafeMutablePointer<pthread_attr_t>.allocate(capacity: 1)
        pthread_attr_init(attributes)
        defer {
            pthread_attr_destroy(attributes)
            attributes.deallocate()
        }
        try #require(pthread_attr_setstacksize(attributes, stack) == 0)
        var thread: pthread_t = 0
        let result = pthread_create(
            &thread, attributes,
            { argument in
                Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().body()
                return nil
            }, Unmanaged.passRetained(Box(body)).toOpaque())
        try #require(result == 0)
        pthread_join(thread, nil)
    }
}
