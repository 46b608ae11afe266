// SPDX-License-Identifier: Apache-2.0

import RPC
import Serving
import Testing

@testable import mmfreed

@Suite struct SettingsTests {
    @Test("every default is a value its setting takes", arguments: Setting.all)
    func defaults(setting: Setting) {
        #expect(setting.accepts(setting.standard))
    }

    @Test func namesAreUniqueAndFitForVariables() {
        let names = Setting.all.map(\.name)
        #expect(Set(names).count == names.count)
        for name in names {
            #expect(name.allSatisfy { $0.isLowercase || $0 == "_" || $0.isNumber }, "\(name)")
        }
    }

    @Test func laterSourcesWinAndAreRemembered() {
        var settings = Settings()
        settings.read("slots = 3\nqueue = 7\n", path: "a.conf")
        settings.read("# more\nslots = 4\n", path: "b.conf")
        settings.read(environment: ["MMFREED_QUEUE": "9"])
        settings.set("threads", "2", from: "--threads")
        #expect(settings.values["slots"] == .init(text: "4", source: "b.conf:2"))
        #expect(settings.values["queue"] == .init(text: "9", source: "MMFREED_QUEUE"))
        #expect(settings.values["threads"] == .init(text: "2", source: "--threads"))
        #expect(settings.values["prefault"]?.source == "default")
    }

    @Test func emptyVariablesSetNothing() {
        var settings = Settings()
        settings.read(environment: ["MMFREED_SLOTS": ""])
        #expect(settings.whole("slots") == 8)
    }

    @Test(
        "what cannot be used is refused with its place and what would do",
        arguments: [
            ("\nslotz = 3", "x.conf:2", "did you mean 'slots'"),
            ("slots = 0", "x.conf:1", "1 to 4096"),
            ("slots = 2.5", "x.conf:1", "slots is '2.5'"),
            ("a = 1\nslots = = 2", "x.conf:2", ""),
            ("\n\nlog_level = \"loud\"", "x.conf:3", "critical"),
            ("socket_mode = \"0999\"", "x.conf:1", "octal"),
            ("models = [1, 2]", "x.conf:1", "list of texts"),
            ("prefault = \"maybe\"", "x.conf:1", "yes or no"),
            ("idle_exit = -1", "x.conf:1", "seconds"),
            ("kernels = \"foo\"", "x.conf:1", "this processor can run scalar"),
            ("quite_something_else = 1", "x.conf:1", "no setting 'quite_something_else'"),
        ])
    func refusals(text: String, place: String, hint: String) {
        var settings = Settings()
        settings.read(text, path: "x.conf")
        let problem = settings.problems.last
        #expect(problem?.source == place)
        #expect(
            problem?.description.contains(hint.isEmpty ? "x.conf" : hint) == true,
            "\(problem as Any)")
    }

    @Test func allThatIsWrongIsSaidAndTheRestCounts() {
        var settings = Settings()
        settings.read("slotz = 3\nqueue = 7\nslots = 0", path: "x.conf")
        settings.read("= ", path: "y.conf")
        settings.read(environment: ["MMFREED_PREFAULT": "maybe"])
        settings.set(pair: "threads")
        #expect(
            settings.problems.map(\.source) == [
                "x.conf:1", "x.conf:3", "y.conf:1", "MMFREED_PREFAULT", "--set threads",
            ])
        #expect(settings.whole("queue") == 7)
        #expect(throws: Settings.Problems.self) { try settings.check() }
    }

    @Test func valuesReachTheirUsers() {
        var settings = Settings()
        settings.read(
            """
            models = ["/a", "/b"]
            default_model = "m"
            slots = 2
            threads = 3
            slow_reader_timeout = 1.5
            max_connections = 5
            socket_mode = "0600"
            prefault = true
            """, path: "x.conf")
        #expect(settings.list("models") == ["/a", "/b"])
        #expect(settings.serving.slots == 2)
        #expect(settings.serving.threads == 3)
        #expect(settings.serving.defaultModel == "m")
        #expect(settings.serving.slowReaderTimeout == 1_500_000_000)
        #expect(settings.serving.prefault)
        #expect(settings.transport.connections == 5)
        #expect(settings.mode == 0o600)
    }

    @Test func theListingIsAFileThatMeansTheSame() {
        var settings = Settings()
        settings.read("models = [\"/a\", \"/b\"]\nidle_exit = 2.5\nlog_text = true", path: "x")
        var again = Settings()
        again.read(settings.listing, path: "y")
        for setting in Setting.all {
            #expect(again.text(setting.name) == settings.text(setting.name), "\(setting.name)")
        }
    }

    @Test func randomTextIsReadOrRefusedAndNothingElse() {
        var generator = SystemRandomNumberGenerator()
        let pieces = [
            "slots", "=", "\n", "[", "]", "\"", "'", "3", "{", "}", "#", ".", "\\u", "é", "\0", ",",
        ]
        for _ in 0..<300 {
            let text = (0..<Int.random(in: 0..<12, using: &generator))
                .map { _ in pieces.randomElement(using: &generator) ?? "" }.joined()
            var settings = Settings()
            settings.read(text, path: "x")
            #expect(settings.problems.allSatisfy { $0.source.hasPrefix("x:") }, "\(text)")
        }
    }
}
