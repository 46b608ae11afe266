// SPDX-License-Identifier: Apache-2.0

import ArgumentParser

/// What is looked at before and after ArgumentParser reads the command line, to say more than it can.
enum CommandLineCheck {
    /// - Throws: `Failure` for an argument that is not UTF-8: Swift would put U+FFFD in its place.
    static func encoding() throws(Failure) {
        for index in 1..<max(1, Int(CommandLine.argc)) {
            guard let bytes = CommandLine.unsafeArgv[index] else { continue }
            if String(validatingCString: bytes) == nil {
                throw Failure(
                    "argument \(index) is not UTF-8 text: \(String(cString: bytes))", .data)
            }
        }
    }

    static let verbs: [String] = Mmfreectl.configuration.groupedSubcommands
        .flatMap(\.subcommands).map { $0._commandName }

    /// Other programs' words for our verbs.
    private static let synonyms = [
        "list": "models", "ls": "models", "run": "generate", "complete": "generate",
        "stop": "cancel", "kill": "cancel", "info": "inspect",
        "show": "inspect", "encode": "tokenize", "decode": "detokenize", "convert": "pack",
        "quantize": "pack", "check": "verify", "ping": "wait", "version": "--version",
        "add": "install", "uninstall": "remove", "rm": "remove", "delete": "remove",
        "undo": "rollback",
        "history": "versions", "lock": "pin", "unpin": "unload", "evict": "unload",
    ]

    /// - Throws: `Failure` for a verb there is not, after `help` too.
    static func verbs(_ arguments: [String]) throws(Failure) {
        let words = arguments.prefix(2)
        let verb = words.first == "help" ? words.dropFirst().first : words.first
        guard let verb, !verb.hasPrefix("-"), verb != "help", !verbs.contains(verb) else { return }
        let near = synonyms[verb] ?? nearest(to: verb)
        let hint = near.map { "did you mean '\($0)'? " } ?? ""
        throw Failure(
            "there is no verb '\(verb)': \(hint)`mmfreectl --help` lists them", .usage)
    }

    /// The verb with the fewest letters to change, if they are few.
    private static func nearest(to word: String) -> String? {
        let best = verbs.map { ($0, distance(word, $0)) }.min { $0.1 < $1.1 }
        guard let best, best.1 <= max(1, min(3, word.count / 2)) else { return nil }
        return best.0
    }

    /// Levenshtein's.
    private static func distance(_ a: String, _ b: String) -> Int {
        let (a, b) = (Array(a.utf8.prefix(64)), Array(b.utf8))
        var row = Array(0...b.count)
        for i in a.indices {
            var diagonal = row[0]
            row[0] = i + 1
            for j in b.indices {
                let above = row[j + 1]
                row[j + 1] = min(above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1))
                diagonal = above
            }
        }
        return row[b.count]
    }

    /// What to do about arguments that ArgumentParser does not understand.
    static func hint(_ message: String, _ arguments: [String]) -> String? {
        guard let verb = arguments.first, ["generate", "embed", "score", "tokenize"].contains(verb)
        else {
            return nil
        }
        let other = verb == "generate" ? ", or after --prompt" : ""
        if message.hasPrefix("Unknown option") || message.hasPrefix("Invalid option") {
            return
                "A text that begins with a hyphen stands after --\(other): mmfreectl \(verb) -- '- one'"
        }
        if message.contains("nexpected argument"), verb != "embed" {
            return "Quote a text of several words: mmfreectl \(verb) \"one two\""
        }
        return nil
    }
}
