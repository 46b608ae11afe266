// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@Suite("mmfreectl render, and chat with a model's template")
struct RenderTests {
    private static let template =
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"

    private func file(_ text: String, _ name: String, in directory: String) throws -> String {
        let path = directory + "/" + name
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }

    @Test("a template's file and a conversation give the text alone, without a daemon")
    func files() throws {
        try Program.withDirectory { directory in
            let template = try file(Self.template, "t.jinja", in: directory)
            func render(_ json: String, _ more: [String] = []) throws -> Program.Result {
                try Program.run(["render", "--template", template] + more, input: Array(json.utf8))
            }
            let messages = #"[{"role": "user", "content": "Hi é"}]"#
            let list = try render(messages)
            #expect(list.status == 0, "\(list.errors)")
            #expect(list.output == "user: Hi é\nassistant:")
            #expect(try render(messages, ["--no-generation-prompt"]).output == "user: Hi é\n")
            let object = try render(
                #"{"messages": \#(messages), "bos_token": "<b>", "add_generation_prompt": false}"#)
            #expect(object.output == "<b>user: Hi é\n")
            #expect(try render("[").status == 65)
            #expect(try render("5").errors.contains("a list of messages"))
        }
    }

    @Test("what is not known is refused with its place, and the template's own refusals told")
    func refusals() throws {
        try Program.withDirectory { directory in
            func render(_ source: String) throws -> Program.Result {
                let template = try file(source, "t.jinja", in: directory)
                return try Program.run(
                    ["render", "--template", template], input: Array("[]".utf8))
            }
            let unknown = try render("\n{{ x | urlize }}")
            #expect(unknown.status == 65)
            #expect(
                unknown.errors.contains(
                    "t.jinja: line 2, column 8: not supported: the filter 'urlize'"))
            #expect(try render("{{ raise_exception('no!') }}").errors.contains("no!"))
        }
    }

    @Test("a model's template is NAME.jinja beside it, and chat follows it")
    func model() throws {
        try Program.withDirectory { directory in
            try FileManager.default.copyItem(atPath: Program.demo, toPath: directory + "/m.gguf")
            try Program.withDaemon(models: directory) { environment in
                try follows(directory, environment)
            }
        }
    }

    private func follows(_ directory: String, _ environment: [String: String]) throws {
        let missing = try Program.run(
            ["render"], input: Array("[]".utf8), environment: environment)
        #expect(missing.status == 66)
        #expect(missing.errors.contains(".jinja supplies one"))
        _ = try file(Self.template, "m.jinja", in: directory)
        let source = try Program.run(["render", "--source"], environment: environment)
        #expect(source.output == Self.template)
        let rendered = try Program.run(
            ["render"], input: Array(#"[{"role": "user", "content": "Hi"}]"#.utf8),
            environment: environment)
        #expect(rendered.output == "<s>user: Hi\nassistant:")

        let greedy = ["--temperature", "0", "-n", "8"]
        let chat = try Program.run(
            ["chat"] + greedy, input: Array("Hi\n".utf8), environment: environment)
        #expect(chat.status == 0, "\(chat.errors)")
        let ids = try Program.run(
            ["tokenize", "--no-bos", "--parse-special", rendered.output],
            environment: environment)
        let generated = try Program.run(
            ["generate", "--tokens", ids.lines.joined()] + greedy, environment: environment)
        #expect(generated.status == 0, "\(generated.errors)")
        #expect(chat.output == generated.output)
        #expect(!chat.output.isEmpty)

        let spelled = try Program.run(
            ["chat"] + greedy, input: Array("Hi</s>\n".utf8), environment: environment)
        #expect(spelled.status == 64)
        #expect(spelled.errors.contains("spells control tokens of the model (</s>)"))
    }
}
