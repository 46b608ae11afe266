// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import ChatTemplates

/// Short templates and their renderings, which jinja2 gives too.
@Suite("Templates")
struct TemplateTests {
    static func render(
        _ source: String, _ variables: [String: TemplateValue] = [:]
    ) throws(TemplateError) -> String {
        try ChatTemplate(source).render(
            variables, time: TemplateTime(year: 2024, month: 7, day: 26))
    }

    static let renderings: [(String, String)] = [
        // White space.
        ("a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc"),
        ("a  {%- if true -%}  b  {%- endif %}  c", "ab  c"),
        ("  {%+ if true +%}\nb{% endif %}", "  \nb"),
        ("a {#- x -#} b{# y #}\nc", "abc"),
        ("{% raw %} {{ x }} {% endraw %}", " {{ x }} "),
        ("a\r\nb\rc\n\n", "a\nb\nc\n"),
        // How values print.
        ("{{ [1, 2.0, 'a', none, true, {'k': (1,)}] }}", "[1, 2.0, 'a', None, True, {'k': (1,)}]"),
        (
            "{{ 1e16 }} {{ 1e15 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1e22 }} {{ -0.0 }}",
            "1e+16 1000000000000000.0 0.0001 1e-05 1e+22 -0.0"
        ),
        (
            "{{ ['\\n\\x00\"', \"'\", \"'\\\"\", '\\u200b'] }}",
            "['\\n\\x00\"', \"'\", '\\'\"', '\\u200b']"
        ),
        (
            "{{ missing }}|{{ none }}|{{ range(2, 9, 3) }}|{{ {'a': 1}.items() }}",
            "|None|range(2, 9, 3)|dict_items([('a', 1)])"
        ),
        // Operators.
        (
            "{{ 7 // -2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 1 ~ 2.5 ~ none }}",
            "-4 2 3.5 1024 0.5 12.5None"
        ),
        (
            "{{ 1 < 2 < 2 }} {{ 'a' in 'cat' }} {{ 3 not in [1] }} {{ not 0 or 1 }} {{ '' or 'x' and 'y' }}",
            "False True True True y"
        ),
        ("{{ 'abcdef'[1:-1:2] }} {{ 'abc'[::-1] }} {{ [1, 2, 3][-1] }} {{ 'é'[0] }}", "bd cba 3 é"),
        ("{{ 1 if false }}|{{ 'x' if 0 else 'y' if 1 else 'z' }}", "|y"),
        // Filters and methods.
        ("{{ ' a b ' | trim | replace('a', 'x') | upper }}", "X B"),
        ("{{ {'b': 1, 'a': '<é>'} | tojson }}", "{\"b\": 1, \"a\": \"<é>\"}"),
        ("{{ [1, {'a': []}] | tojson(indent=2) }}", "[\n  1,\n  {\n    \"a\": []\n  }\n]"),
        ("{{ [3, 1, 2] | sort | join('-') }} {{ ['b', 'A'] | sort }}", "1-2-3 ['A', 'b']"),
        (
            "{{ 'straße'.upper() }} {{ 'ΑΣ'.lower() }} {{ 'hello world' | title }}",
            "STRASSE ας Hello World"
        ),
        (
            "{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a b c'.rsplit(' ', 1) }}",
            "['a', 'b', '', 'c'] ['a', 'b'] ['a b', 'c']"
        ),
        // Statements.
        (
            "{% for x in [1, 2, 3] if x != 2 %}{{ loop.index }}{{ x }}{{ loop.last }};{% else %}-{% endfor %}",
            "11False;23True;"
        ),
        ("{% for x in [] %}{% else %}none{% endfor %}", "none"),
        (
            "{% for x in range(9) %}{% if x == 1 %}{% continue %}{% endif %}{% if x == 4 %}{% break %}{% endif %}{{ x }}{% endfor %}",
            "023"
        ),
        ("{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{% endfor %}{{ x }}", "1"),
        (
            "{% set ns = namespace(x=1) %}{% for i in [1] %}{% set ns.x = 2 %}{% endfor %}{{ ns.x }}",
            "2"
        ),
        ("{% set x | upper %}ab{% endset %}{{ x }}{% filter upper %}c{% endfilter %}", "ABC"),
        (
            "{% macro m(a, b='d') %}{{ a }}{{ b }}{{ caller() if caller }}{% endmacro %}{{ m(1) }}{% call m(2, b=3) %}!{% endcall %}",
            "1d23!"
        ),
        (
            "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{% generation %}g{% endgeneration %}",
            "3g"
        ),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}", "a=1"),
        ("{{ strftime_now('%d %b %Y, %A') }}", "26 Jul 2024, Friday"),
        // A loop's filter sees what its body has changed.
        (
            "{% set ns = namespace(n=0) %}{% for x in [1, 2, 3] if ns.n < 2 %}{% set ns.n = ns.n + 1 %}{{ x }}{% endfor %}",
            "12"
        ),
        // What is set later in a scope hides the caller's from scopes further in.
        ("{% for i in [1] %}{{ given }}{% endfor %}{% set given = 2 %}", ""),
        ("{{ given }}{% set given = 2 %}{{ given }}", "12"),
    ]

    @Test("render as in jinja2", arguments: renderings)
    func renders(_ source: String, _ text: String) throws {
        #expect(try Self.render(source, ["given": 1]).utf8.elementsEqual(text.utf8))
    }

    static let refusals: [(String, TemplateError.Kind, String)] = [
        ("{{ x | urlize }}", .unsupported, "line 1, column 8: not supported: the filter 'urlize'"),
        ("\n {{ x is weird }}", .unsupported, "line 2, column 10: not supported: the test 'weird'"),
        (
            "{{ x.append(1) }}", .unsupported,
            "line 1, column 5: not supported: the method 'append', which would change a value (Jinja's sandbox refuses it too)"
        ),
        (
            "{{ x.__class__ }}", .unsupported,
            "line 1, column 5: not supported: the attribute '__class__': those that begin with '_' are closed"
        ),
        ("{% include 'x' %}", .unsupported, "line 1, column 4: not supported: the tag 'include'"),
        (
            "{% for x in y recursive %}{% endfor %}", .unsupported,
            "line 1, column 15: not supported: a recursive loop"
        ),
        ("{{ lipsum() }}", .unsupported, "line 1, column 4: not supported: the function 'lipsum'"),
        (
            "{{ ['a'] | map('weird') }}", .unsupported,
            "line 1, column 16: not supported: the filter 'weird'"
        ),
        (
            "{% if x %}", .syntax,
            "line 1, column 11: expected '{% elif %}' or '{% else %}' or '{% endif %}', found the end of the template"
        ),
        ("{{ (1, 2] }}", .syntax, "line 1, column 9: unexpected ']', expected ')'"),
        ("{{ 'a }}", .syntax, "line 1, column 4: a string without its end"),
        ("{% break %}", .syntax, "line 1, column 4: 'break' outside of a loop"),
        ("{# x", .syntax, "line 1, column 1: '{#' without its '#}'"),
        ("{{ missing.x }}", .value, "line 1, column 11: 'missing' is undefined"),
        ("{{ 'a' + 1 }}", .value, "line 1, column 8: no arithmetic between a str and a int"),
        ("{{ raise_exception('not so') }}", .raised, "line 1, column 19: not so"),
        (
            "{{ none | unique | list }}", .value,
            "line 1, column 20: a NoneType cannot be walked over"
        ),
        ("{{ 1 // 0 }}", .value, "line 1, column 6: a division by zero"),
        (
            "{{ '%s' % 1 }}", .unsupported,
            "line 1, column 9: not supported: formatting by '%'; '~' joins texts"
        ),
    ]

    @Test("what is wrong is named with its place", arguments: refusals)
    func refuses(_ source: String, _ kind: TemplateError.Kind, _ message: String) {
        let error = #expect(throws: TemplateError.self) { try Self.render(source) }
        #expect(error?.kind == kind)
        #expect(error?.description == message)
    }
}
