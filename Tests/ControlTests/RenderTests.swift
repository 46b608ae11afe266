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

    @Test(
        "a chat under a template goes on where it ended, with the session or from the state's file, as one that did not end"
    )
    func goesOn() throws {
        try Program.withDirectory { directory in
            try FileManager.default.copyItem(atPath: Program.demo, toPath: directory + "/m.gguf")
            // What it writes of earlier messages is what the session has read.
            let appending = Self.template.replacingOccurrences(of: ": {{", with: ":{{")
            _ = try file(appending, "m.jinja", in: directory)
            try Program.withDaemon(models: directory) { environment in
                let environment = environment.merging(["XDG_STATE_HOME": directory + "/s"]) { $1 }
                try goesOn(directory, environment)
            }
        }
    }

    private func goesOn(_ directory: String, _ environment: [String: String]) throws {
        func chat(_ lines: String, _ more: String...) throws -> Program.Result {
            try Program.run(
                ["chat", "--temperature", "0", "-n", "8"] + more, input: Array(lines.utf8),
                environment: environment)
        }
        let state = directory + "/talk.state"
        let whole = try chat("Hi\n/save \(state)\nand then\nAgain\n")
        #expect(whole.status == 0, "\(whole.errors)")
        let first = try chat("Hi\n").output
        let rest = String(whole.output.dropFirst(first.count))
        #expect(whole.output.hasPrefix(first) && !rest.isEmpty)

        let restored = try chat("and then\nAgain\n", "--restore", state)
        #expect(restored.status == 0, "\(restored.errors)")
        #expect(restored.output == rest)
        #expect(try chat("/restore \(state)\nand then\nAgain\n").output == rest)

        let id = try #require(
            try Program.run(["session", "create", "--blank"], environment: environment).lines.first)
        var parts = ""
        for line in ["Hi", "and then", "Again"] {
            let part = try chat(line + "\n", "--session", String(id))
            #expect(part.status == 0, "\(part.errors)")
            parts += part.output
        }
        #expect(parts == whole.output)
        #expect(!whole.errors.contains("read again"))
        let late = try chat("x\n", "--session", String(id), "--system", "S")
        #expect(late.status == 64 && late.errors.contains("--system"))

        // Somebody else goes on with it; and a file without its conversation.
        let other = try Program.run(
            ["generate", "--session", String(id), "-n", "3", "--temperature", "0", "more"],
            environment: environment)
        #expect(other.status == 0, "\(other.errors)")
        let unknown = try chat("x\n", "--session", String(id))
        #expect(unknown.status == 64)
        #expect(
            unknown.errors.contains("tokens are not known") && unknown.errors.contains("--plain"))
        let message = state + ".messages"
        try FileManager.default.moveItem(atPath: message, toPath: directory + "/away")
        try FileManager.default.removeItem(atPath: directory + "/s")
        let bare = try chat("x\n", "--restore", state)
        #expect(bare.status == 64 && bare.errors.contains("there is no \(message)"))
        let text = try String(contentsOfFile: directory + "/away", encoding: .utf8)
        for (wrong, problem) in [
            (
                text.replacingOccurrences(of: "\"tokens\": ", with: "\"tokens\": 1"),
                "of another state"
            ),
            ("{}", "format that is known"), ("[", "byte 1"),
        ] {
            _ = try file(wrong, "talk.state.messages", in: directory)
            let result = try chat("x\n", "--restore", state)
            #expect(result.status == 65 && result.errors.contains(problem), "\(result.errors)")
        }
    }
}
