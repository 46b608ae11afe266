// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import mmfreed

/// What lies where settings should be.
@Suite final class SettingsFileTests {
    private let place: FilePath
    private var directory: String { place.string }

    init() throws { place = try makeTemporaryDirectory() }

    deinit { try? removeFile(place) }

    private func write(_ bytes: some Swift.Sequence<UInt8>, to name: String = "a.conf") throws
        -> String
    {
        let path = place.appending(name)
        try TestSupport.write(Array(bytes), to: path)
        return path.string
    }

    private func problem(_ body: () throws -> Void) -> String {
        "\(#expect(throws: Settings.Problem.self, performing: body) as Any)"
    }

    @Test func dropInsAreFoundByName() throws {
        let main = try write([], to: "a.txt")
        _ = try write([], to: "b.conf")
        let file = try write([])
        let files = try Settings.files(main: main, directories: [directory + "/none", directory])
        #expect(files == [main, file, directory + "/b.conf"])
        #expect(try Settings.files(main: "/none", directories: ["/none"]) == [])
    }

    /// As root nothing is forbidden, so the place below a file and a loop stand for it.
    @Test func onlyWhatDoesNotExistIsAbsent() throws {
        let file = try write([])
        let loop = directory + "/b.conf"
        symlink(loop, loop)
        for (path, reason) in [(file + "/x", "Not a directory"), (loop, "symbolic links")] {
            for text in [
                problem { _ = try Settings.files(main: path, directories: []) },
                problem { _ = try Settings.files(main: "/none", directories: [path]) },
            ] {
                #expect(text.contains(path) && text.contains(reason), "\(text)")
            }
        }
    }

    @Test func aDirectoryIsNoFile() throws {
        let path = directory + "/a.conf"
        mkdir(path, 0o700)
        let text = problem { _ = try SettingsFile.contents(of: path) }
        #expect(text.contains(path) && text.contains("Is a directory"), "\(text)")
    }

    @Test func anotherEncodingIsRefusedWithItsLine() throws {
        let path = try write(Array("slots = 1\n# ".utf8) + [0xE9, 0x0A])
        let text = problem { _ = try SettingsFile.contents(of: path) }
        #expect(text.contains(path + ":2") && text.contains("UTF-8"), "\(text)")
    }

    @Test func aFileIsReadWholeOrRefused() throws {
        let most = [UInt8](repeating: UInt8(ascii: "\n"), count: SettingsFile.limit)
        #expect(try SettingsFile.contents(of: write(most)).utf8.count == SettingsFile.limit)
        let path = try write(most + [0x0A])
        let text = problem { _ = try SettingsFile.contents(of: path) }
        #expect(text.contains(path) && text.contains("65536"), "\(text)")
    }

    @Test("a file of the largest size is read in no time to speak of")
    func time() throws {
        var text = ""
        while text.utf8.count < SettingsFile.limit - 20 { text += "name_\(text.utf8.count) = 1\n" }
        let clock = ContinuousClock()
        let start = clock.now
        #expect(try SettingsFile(text, path: "x").entries.count > 3000)
        #expect(clock.now - start < .seconds(20))
    }

    @Test(
        "what libconfig refuses is shown, and a name that is there twice with both its lines",
        arguments: [
            ("slots = 3\n\n  slots = 4", "x:3", "at 'slots = 4'; line 1 sets 'slots' already"),
            ("slots = 3\nslots = 4", "x:2", "line 1 sets 'slots' already"),
            ("queue = 1\nslots = = 2", "x:2", "at 'slots = = 2'"),
            ("models = [\"/a\\x00b\"]", "x:1", "\\x00"),
            ("@include \"y\"", "x:1", "no includes"),
        ])
    func refusals(text: String, source: String, hint: String) {
        let problem = #expect(throws: Settings.Problem.self) { try SettingsFile(text, path: "x") }
        #expect(problem?.source == source)
        #expect(problem?.what.contains(hint) == true, "\(problem as Any)")
    }

    @Test(
        "a quoted text is read as it was",
        arguments: ["", "/a:b", "a\"b\\c", "\u{1}\n\t\u{7F}", "é 漢", "#//;"])
    func quoting(text: String) throws {
        let file = try SettingsFile("a = \(SettingsFile.quoted(text))", path: "x")
        #expect(file.entries.map(\.input) == [.text(text)])
    }
}
