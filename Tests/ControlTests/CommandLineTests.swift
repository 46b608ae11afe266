// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree
import Testing

@testable import mmfreectl

@Suite("the command line")
struct CommandLineTests {
    @Test(
        "values below zero are values",
        arguments: [
            ["generate", "--presence-penalty", "-0.5", "a"],
            ["generate", "--frequency-penalty", "-2", "a"],
            ["generate", "--temperature", "-1", "a"], ["generate", "--min-p", "-1", "a"],
            ["generate", "--top-p", "-1", "a"], ["generate", "--repetition-penalty", "-1", "a"],
            ["generate", "--stop", "- ", "a"], ["generate", "--stop", "--", "a"],
            ["generate", "--prompt", "- one"], ["generate", "-p", "--json"],
            ["generate", "--", "- one"], ["generate", "-m", "-x", "a"],
            ["generate", "--logit-bias", "5=-1", "a"],
        ])
    func negative(_ line: [String]) throws {
        let command = try Mmfreectl.parseAsRoot(line) as? Generate
        #expect(command != nil)
    }

    @Test(
        "a value that cannot be is named, not called missing",
        arguments: [
            ("--seed", "-1"), ("--timeout", "-3"), ("--timeout", "1e30"), ("--timeout", "nan"),
            ("--timeout", "0"), ("-n", "-1"), ("--top-k", "-1"), ("--logprobs", "-1"),
            ("--seed", "1.5"), ("--seed", "18446744073709551616"),
        ])
    func impossible(_ option: String, _ value: String) {
        do {
            _ = try Mmfreectl.parseAsRoot(["generate", "--json", option, value, "a"])
            Issue.record("accepted")
        } catch {
            let message = Mmfreectl.message(for: error)
            #expect(!message.contains("Missing"), "\(message)")
            #expect(message.contains(value == "1e30" ? "1e+30" : value), "\(message)")
        }
    }

    @Test(
        "one prompt is enough",
        arguments: [
            ["generate", "a", "-p", "b"], ["generate", "a", "-f", "b"],
            ["generate", "-p", "a", "--tokens", "1"], ["tokenize", "a", "-f", "b"],
            ["embed", "a", "-f", "b"], ["embed", "a", "-"], ["default", "a", "--clear"],
            ["logits", "f", "-o", "x", "--tokens", "1", "--prompt", "a"],
            ["perplexity", "f", "--text", "a", "--ids", "b"],
            ["compare", "c", "f", "--text", "-"], ["verify"],
        ])
    func contradictions(_ line: [String]) {
        #expect(throws: (any Error).self) { try Mmfreectl.parseAsRoot(line) }
    }

    @Test("--text and --ids together are two, not none")
    func both() {
        do {
            _ = try Mmfreectl.parseAsRoot(["perplexity", "f", "--text", "a", "--ids", "b"])
        } catch {
            #expect(Mmfreectl.message(for: error) == "give --text or --ids, not both")
        }
    }

    @Test(
        "token ids may be pasted from where they were printed",
        arguments: ["1,415,310", "1 415 310", "1, 415,\t310\n", "[1,415,310]", " 1,415,310 "])
    func tokens(_ text: String) {
        #expect(TokenList(argument: text)?.ids == [1, 415, 310])
    }

    @Test(
        "and nothing else is a list of ids", arguments: ["", "a", "1,x", "1;2", "-1", "[1", "1.5"])
    func noTokens(_ text: String) {
        #expect(TokenList(argument: text) == nil)
    }

    @Test(
        "a verb there is not is named, with one that may be meant",
        arguments: [
            (["list"], "there is no verb 'list': did you mean 'models'?"),
            (["genrate", "a"], "there is no verb 'genrate': did you mean 'generate'?"),
            (["help", "statsu"], "there is no verb 'statsu': did you mean 'status'?"),
            (["help", "nonsense"], "there is no verb 'nonsense': `mmfreectl --help`"),
            (["version"], "did you mean '--version'?"),
        ])
    func verbs(_ line: [String], _ words: String) {
        do {
            try CommandLineCheck.verbs(line)
            Issue.record("accepted")
        } catch {
            #expect(error.status == .usage)
            #expect(error.message.hasPrefix(words) || error.message.contains(words))
        }
    }

    @Test("every verb, and help, is one", arguments: CommandLineCheck.verbs + ["help", "--help"])
    func known(_ verb: String) throws {
        try CommandLineCheck.verbs([verb])
        try CommandLineCheck.verbs(["help", verb])
    }

    @Test("the program says so too: usage errors begin with its name and end with 64")
    func program() throws {
        for (line, words) in [
            (["list"], "mmfreectl: there is no verb 'list'"),
            (["help", "nonsense"], "mmfreectl: there is no verb 'nonsense'"),
            (["generate", "a", "b"], "mmfreectl: Unexpected argument 'b'\nQuote a text"),
            (
                ["generate", "- one"],
                "in '- one'\nA text that begins with a hyphen"
            ),
            (["tokenize", "-- x"], "A text that begins with a hyphen stands after --: "),
            (["detokenize", "1,x"], "mmfreectl: '1,x' is not a list of token ids"),
            (["pack"], "mmfreectl: Missing expected argument"),
        ] {
            let result = try Program.run(line)
            #expect(result.status == 64, "\(line)")
            #expect(result.errors.contains(words), "\(result.errors)")
            #expect(result.output.isEmpty)
        }
    }

    @Test("an argument that is not UTF-8 is refused as on standard input")
    func encoding() throws {
        let argument = try Program.run(["tokenize"], shell: #"exec "$0" "$@" $'a\xff'"#)
        #expect(argument.status == 65)
        #expect(argument.errors.contains("argument 2 is not UTF-8 text"))
        let input = try Program.run(["tokenize"], input: [0x61, 0xFF])
        #expect(input.status == 65)
        #expect(input.errors.contains("standard input is not UTF-8 text"))
    }

    @Test(
        "standard input is read up to the limit of a request", arguments: ["generate", "tokenize"])
    func bounded(_ verb: String) throws {
        let result = try Program.run([verb], shell: #"exec "$0" "$@" </dev/zero"#)
        #expect(result.status == 65)
        #expect(
            result.errors.contains("standard input has more than \(Client.textLimit) bytes"))
    }

    @Test("the program speaks without ICU")
    func size() throws {
        let libraries = try Program.run(
            [],
            shell: #"ldd "$0" | grep -ciE 'icu|FoundationInternationalization|libFoundation\.so'"#)
        #expect(libraries.output == "0\n")
    }
}
