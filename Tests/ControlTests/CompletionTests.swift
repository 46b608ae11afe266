// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

/// The scripts that shells complete our command line with, run by those shells.
@Suite("completion")
struct CompletionTests {
    /// What bash offers for the last of some words, in a directory with a few files.
    private func bash(
        _ words: [String], environment: [String: String] = [:]
    ) throws -> Set<String> {
        var offered: Set<String> = []
        try Program.withDirectory { directory in
            for name in ["story.txt", "a.gguf", "b c.gguf"] {
                try Data().write(to: URL(fileURLWithPath: directory + "/" + name))
            }
            try FileManager.default.createDirectory(
                atPath: directory + "/stories", withIntermediateDirectories: false)
            let result = try Program.run(
                words, environment: environment,
                shell: """
                    cd '\(directory)'
                    mmfreectl() { "$program" "$@"; }
                    program=$0
                    source <("$program" --generate-completion-script bash) || exit
                    COMP_WORDS=(mmfreectl "$@")
                    COMP_CWORD=$#
                    COMP_LINE="${COMP_WORDS[*]}"
                    COMP_POINT=${#COMP_LINE}
                    function=$(complete -p mmfreectl | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
                    "$function" mmfreectl "${COMP_WORDS[-1]}" "${COMP_WORDS[-2]}"
                    printf '%s\\n' "${COMPREPLY[@]}"
                    """)
            #expect(result.errors.isEmpty)
            offered = Set(
                result.output.split(separator: "\n").map {
                    String($0).replacing("\\ ", with: " ")
                })
        }
        return offered
    }

    @Test("bash offers verbs and options")
    func verbs() throws {
        #expect(try bash(["veri"]) == ["verify"])
        #expect(try bash(["generate", "--temp"]) == ["--temperature"])
        #expect(
            try bash([""]).isSuperset(of: [
                "generate", "ps", "top", "metrics", "wait", "default", "pack",
            ]))
    }

    @Test("bash offers files and directories where one is wanted")
    func files() throws {
        #expect(try bash(["verify", "a"]) == ["a.gguf"])
        #expect(try bash(["verify", "a.gguf", ""]) == ["a.gguf", "b c.gguf", "stories"])
        #expect(try bash(["install", "a"]) == ["a.gguf"])
        #expect(try bash(["install", "a.gguf", "--directory", "sto"]) == ["stories"])
        #expect(try bash(["inspect", ""]) == ["a.gguf", "b c.gguf", "stories"])
        #expect(try bash(["perplexity", "a.gguf", "--text", "sto"]) == ["story.txt", "stories"])
        #expect(try bash(["generate", "-f", "sto"]) == ["story.txt", "stories"])
        #expect(try bash(["pack", "sto"]) == ["stories"])
        #expect(try bash(["pack", "stories", "-o", "a"]) == ["a.gguf"])
        #expect(try bash(["unpack", "a.gguf", "-o", "sto"]) == ["stories"])
        #expect(try bash(["compare", "sto"]) == ["stories"])
        #expect(try bash(["compare", "stories", "a"]) == ["a.gguf"])
        #expect(try bash(["models", "--socket", "sto"]) == ["story.txt", "stories"])
    }

    @Test("bash offers the models that are served")
    func models() throws {
        try Program.withDaemon { environment throws in
            #expect(try bash(["generate", "-m", ""], environment: environment) == ["demo"])
            #expect(try bash(["embed", "--model", "de"], environment: environment) == ["demo"])
            #expect(try bash(["default", ""], environment: environment).contains("demo"))
            #expect(try bash(["rollback", ""], environment: environment).contains("demo"))
            #expect(try bash(["cancel", "r"], environment: environment) == [])
        }
        // Nobody to ask: nothing to offer, and nothing said.
        let nobody = ["MMFREED_SOCKET": "/proc/nonexistent/s"]
        #expect(try bash(["generate", "-m", "x"], environment: nobody) == [])
    }

    static func has(_ shell: String) -> Bool { access("/usr/bin/" + shell, X_OK) == 0 }

    @Test("zsh reads its script", .enabled(if: has("zsh")))
    func zsh() throws {
        let result = try Program.run(
            [],
            shell: #"""
                exec zsh -fc 'autoload -Uz compinit; compinit -D -u; source <("$0" --generate-completion-script zsh)
                    whence -w _mmfreectl; print $_comps[mmfreectl]' "$0"
                """#)
        #expect(result.errors.isEmpty)
        #expect(result.output == "_mmfreectl: function\n_mmfreectl\n")
    }

    @Test("fish reads its script and offers verbs and files", .enabled(if: has("fish")))
    func fish() throws {
        // Asked without a terminal, fish 3 cannot run what asks the daemon.
        func offered(_ line: String) throws -> [String] {
            let result = try Program.run(
                [line], environment: ["HOME": "/proc/nonexistent"],
                shell: #"""
                    cd /dev && exec fish --no-config -c '$argv[1] --generate-completion-script fish | source
                        complete -C $argv[2]' "$0" "$1"
                    """#)
            return result.lines.map { line in String(line.prefix { $0 != "\t" }) }
        }
        #expect(try offered("mmfreectl veri") == ["verify"])
        #expect(try offered("mmfreectl generate -f nul") == ["null"])
    }
}
