// SPDX-License-Identifier: Apache-2.0

import Logging
import ModelStore
import RPC
import Serving
import Testing

@testable import mmfreed

@Suite struct SettingsTests {
    private func settings(_ text: String) -> Settings {
        var settings = Settings()
        settings.read(text, path: "x.conf")
        return settings
    }

    @Test(
        "every default is read back from what the listing shows",
        arguments: SettingsTable.all.map(\.name))
    func defaults(name: String) throws {
        let setting = try #require(SettingsTable.named(name))
        let settings = settings("\(name) = \(setting.standardText)")
        #expect(settings.problems.isEmpty)
        #expect(settings.text(setting) == setting.standardText)
    }

    @Test func namesAreUniqueAndFitForVariables() {
        let names = SettingsTable.all.map(\.name)
        #expect(Set(names).count == names.count)
        #expect(names.contains("controllers") && names.contains("slots"))
        for name in names {
            #expect(name.allSatisfy { $0.isLowercase || $0 == "_" || $0.isNumber }, "\(name)")
        }
    }

    @Test func laterSourcesWinAndAreRemembered() {
        var settings = Settings()
        settings.read("slots = 3\nqueue = 7\n", path: "a.conf")
        settings.read("# more\nslots = 4\n", path: "b.conf")
        settings.read { $0 == "MMFREED_QUEUE" ? "9" : nil }
        settings.set("threads", .text("2"), from: "--threads")
        #expect(settings.slots == 4 && settings.source(of: \.slots) == "b.conf:2")
        #expect(settings.queue == 9 && settings.source(of: \.queue) == "MMFREED_QUEUE")
        #expect(settings.threads == 2 && settings.source(of: \.threads) == "--threads")
        #expect(settings.source(of: \.prefault) == nil)
    }

    @Test func emptyVariablesSetNothing() {
        var settings = Settings()
        settings.read { $0 == "MMFREED_SLOTS" ? "" : nil }
        #expect(settings.slots == 8 && settings.problems.isEmpty)
    }

    @Test(
        "what cannot be used is refused with its place and what would do",
        arguments: [
            ("\nslotz = 3", "x.conf:2", "did you mean 'slots'"),
            ("slots = 0", "x.conf:1", "1 to 4096"),
            ("slots = 2.5", "x.conf:1", "slots is '2.5'"),
            ("slots = 99999999999", "x.conf:1", "1 to 4096"),
            ("a = 1\nslots = = 2", "x.conf:2", ""),
            ("\n\nlog_level = \"loud\"", "x.conf:3", "critical"),
            ("socket_mode = \"0999\"", "x.conf:1", "octal"),
            ("models = [1, 2]", "x.conf:1", "list of texts"),
            ("models = []", "x.conf:1", "a path at least"),
            ("models = [\"/a\", \"\"]", "x.conf:1", "a path at least, and none that is empty"),
            ("slots = [\"3\"]", "x.conf:1", "slots is [\"3\"]; it must be a whole number"),
            ("prefault = \"maybe\"", "x.conf:1", "yes or no"),
            ("idle_exit = -1", "x.conf:1", "seconds"),
            ("socket = \"\"", "x.conf:1", "a path"),
            ("socket = \"@s\"", "x.conf:1", "an abstract socket"),
            ("socket = \"tcp://h:1\"", "x.conf:1", "a Unix socket only"),
            ("kernels = \"foo\"", "x.conf:1", "this processor can run scalar"),
            (
                "controllers = [\"root\", \"nobody-of-that-name\"]", "x.conf:1",
                "no user 'nobody-of-that-name'"
            ),
            ("quite_something_else = 1", "x.conf:1", "no setting 'quite_something_else'"),
        ])
    func refusals(text: String, place: String, hint: String) {
        let problem = settings(text).problems.last
        #expect(problem?.source == place)
        #expect(
            problem?.description.contains(hint.isEmpty ? "x.conf" : hint) == true,
            "\(problem as Any)")
    }

    @Test func allThatIsWrongIsSaidAndTheRestCounts() {
        var settings = settings("slotz = 3\nqueue = 7\nslots = 0")
        settings.read("= ", path: "y.conf")
        settings.read { $0 == "MMFREED_PREFAULT" ? "maybe" : nil }
        settings.set(pair: "threads")
        #expect(
            settings.problems.map(\.source) == [
                "x.conf:1", "x.conf:3", "y.conf:1", "MMFREED_PREFAULT", "--set threads",
            ])
        #expect(settings.queue == 7)
        #expect(throws: Settings.Problems.self) { try settings.check() }
        #expect(settings.exitStatus == 64)
        #expect(self.settings("slots = 0").exitStatus == 78)
    }

    @Test("a path may have a colon: only one before a slash separates, and in a list none does")
    func colons() {
        #expect(settings("models = [\"/a:b\", \"/c:/d\"]").models == ["/a:b", "/c:/d"])
        for (text, paths) in [
            ("/a:b", ["/a:b"]), ("/a:/b", ["/a", "/b"]), ("/a:/b:c:/d", ["/a", "/b:c", "/d"]),
            ("a", ["a"]), ("a:b", ["a:b"]), ("/a:", ["/a:"]), (":", [":"]),
            ("[\"/a:/b\", \"/c\"]", ["/a:/b", "/c"]),
        ] {
            var settings = Settings()
            settings.read { $0 == "MMFREED_MODELS" ? text : nil }
            #expect(settings.models == paths, "MMFREED_MODELS=\(text)")
            settings.set(pair: "models=" + text)
            #expect(settings.models == paths, "--set models=\(text)")
            #expect(settings.problems.isEmpty)
        }
        for text in ["[\"/a\"", "[\"/a\"]; slots = 3", "[1]"] {
            var settings = Settings()
            settings.set(pair: "models=" + text)
            #expect(settings.problems.count == 1, "\(text)")
            #expect(settings.slots == 8)
        }
    }

    @Test func valuesReachTheirUsers() {
        let settings = settings(
            """
            models = ["/a", "/b"]
            default_model = "m"
            slots = 2
            threads = 3
            slow_reader_timeout = 1.5
            max_connections = 5
            socket_mode = "0600"
            prefault = true
            controllers = ["root", "4711"]
            log_level = "debug"
            idle_exit = 2.5
            """)
        #expect(settings.models == ["/a", "/b"])
        #expect(settings.serving.slots == 2)
        #expect(settings.serving.threads == 3)
        #expect(settings.serving.defaultModel == "m")
        #expect(settings.serving.slowReaderTimeout == 1_500_000_000)
        #expect(settings.serving.prefault)
        #expect(settings.serving.controllers == [0, 4711])
        #expect(settings.transport.connections == 5)
        #expect(settings.socketMode == 0o600)
        #expect(settings.logLevel == .debug)
        #expect(settings.idleExit == .milliseconds(2500))
    }

    @Test("a share socket is beside the default socket, where it is set to be, or nowhere")
    func sharePath() {
        #expect(Settings().sharePath == "/run/mmfreed/share.sock")
        let own = DefaultPlaces.Own(socket: "/run/user/7/mmfreed.sock", models: "/m")
        #expect(Settings(own: own).sharePath == "/run/user/7/share.sock")
        #expect(settings("socket = \"/tmp/a.sock\"").sharePath == nil)
        #expect(
            settings("socket = \"/tmp/a.sock\"\nshare_socket = \"/tmp/b\"").sharePath == "/tmp/b")
    }

    @Test(
        "digests and untrusted files have words of their own; yes and no still mean what they did")
    func words() {
        for (text, value) in [
            ("\"block\"", .block), ("\"background\"", .background), ("\"skip\"", .skip),
            ("true", .background), ("false", .skip), ("\"no\"", .skip),
        ] as [(String, Verification)] {
            #expect(settings("verify = \(text)").serving.verification == value, "\(text)")
        }
        #expect(Settings().serving.verification == .background)
        #expect(Settings().serving.untrustedFiles == .copy)
        #expect(settings("untrusted_models = \"refuse\"").serving.untrustedFiles == .refuse)
        #expect(
            settings("untrusted_models = \"yes\"").problems.first?.description
                == "x.conf:1: untrusted_models is 'yes'; it must be allow, copy or refuse")
    }

    @Test func theListingIsAFileThatMeansTheSame() {
        let settings = settings(
            """
            models = ["/a:b", "/c\\"d"]
            idle_exit = 2.5
            log_text = true
            controllers = ["7"]
            """)
        #expect(settings.listing.contains(#"models = ["/a:b", "/c\"d"]  # x.conf:1"#))
        var again = Settings()
        again.read(settings.listing, path: "y")
        #expect(again.problems.isEmpty)
        for setting in SettingsTable.all {
            #expect(again.text(setting) == settings.text(setting), "\(setting.name)")
        }
    }

    @Test(
        "a reload takes over what a running daemon can change, and names what waits for a restart")
    func reload() {
        var running = settings("slots = 2\ndefault_model = \"a\"\nlog_level = \"debug\"")
        let (changed, waiting) = running.adopt(
            settings("slots = 3\ndefault_model = \"b\"\nidle_exit = 60"))
        #expect(changed == ["default_model = \"b\"", "idle_exit = 60", "log_level = \"info\""])
        #expect(waiting == ["slots"])
        #expect(running.defaultModel == "b" && running.idleExit == .seconds(60))
        #expect(running.logLevel == .info && running.slots == 2)
        #expect(
            SettingsTable.all.filter(\.isLive).map(\.name) == [
                "default_model", "controllers", "idle_exit", "drain_timeout", "log_level",
            ])
    }

    @Test("the check warns of models that are not there")
    func warnings() {
        #expect(Settings().warnings == [])
        let warnings = settings(
            "models = [\"/no/such\", \"/etc/passwd\", \"/proc\"]\ndefault_model = \"nosuch\""
        ).warnings
        #expect(
            warnings == [
                "x.conf:1: models has '/no/such', which does not exist",
                "x.conf:1: models has '/etc/passwd', which is neither a directory nor a .gguf file",
                "x.conf:2: default_model is 'nosuch'; there are: none",
            ])
    }

    @Test func randomTextIsReadOrRefusedAndNothingElse() {
        var generator = SystemRandomNumberGenerator()
        let pieces = [
            "slots", "=", "\n", "[", "]", "\"", "'", "3", "{", "}", "#", ".", "\\u", "é", "\0", ",",
        ]
        for _ in 0..<300 {
            let text = (0..<Int.random(in: 0..<12, using: &generator))
                .map { _ in pieces.randomElement(using: &generator) ?? "" }.joined()
            #expect(
                settings(text).problems.allSatisfy { $0.source.hasPrefix("x.conf:") }, "\(text)")
        }
    }
}

@Suite("Where things are for a daemon without root")
struct DefaultPlacesTests {
    private let environment = ["XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/a"]

    private func places(_ user: UInt32, _ environment: [String: String], owner: UInt32? = 7)
        -> DefaultPlaces
    {
        DefaultPlaces(user: user, environment: { environment[$0] }, owner: { _ in owner })
    }

    @Test func theUsersOwn() {
        let own = places(7, environment)
        #expect(own.config == "/home/a/.config/mmfreed/mmfreed.conf")
        #expect(own.packaged == [])
        let settings = Settings(own: own.own)
        #expect(settings.socket == "/run/user/7/mmfreed.sock")
        #expect(
            settings.models == [
                "/home/a/.local/share/mmfreed/models", "/var/lib/mmfreed/models",
                "/usr/share/mmfreed/models",
            ])
        #expect(settings.source(of: \.socket) == nil)
        #expect(settings.listing.contains("socket = \"/run/user/7/mmfreed.sock\"  # default"))
    }

    @Test func whereTheUserSaysSo() {
        let chosen = ["XDG_CONFIG_HOME": "/c", "XDG_DATA_HOME": "/d"].merging(environment) { $1 }
        #expect(places(7, chosen).config == "/c/mmfreed/mmfreed.conf")
        #expect(places(7, chosen).own?.models == "/d/mmfreed/models")
        // The specification wants relative paths ignored.
        let relative = ["XDG_DATA_HOME": "d"].merging(environment) { $1 }
        #expect(places(7, relative).own?.models == "/home/a/.local/share/mmfreed/models")
    }

    @Test(
        "root, the system's own daemon, and who has another's environment get the system's places")
    func theSystems() {
        let system = places(0, environment)
        #expect(system.own == nil && system.config == "/etc/mmfreed/mmfreed.conf")
        #expect(places(7, [:]) == system)
        #expect(places(7, environment, owner: 0) == system)
        #expect(places(7, environment, owner: nil) == system)
    }
}
