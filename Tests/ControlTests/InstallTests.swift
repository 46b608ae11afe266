// SPDX-License-Identifier: Apache-2.0

import Foundation
import ModelStore
import SystemPackage
import TestSupport
import Testing

@testable import mmfreectl

@Suite("install, versions, rollback and remove")
struct InstallTests {
    private let nobody = ["MMFREED_SOCKET": "/proc/nonexistent/s"]

    /// A directory of models and two packed files.
    private func withFiles(_ body: (_ models: String, _ one: String, _ two: String) throws -> Void)
        throws
    {
        try Program.withDirectory { directory in
            let files = ["one", "two"].map { directory + "/\($0).gguf" }
            for (seed, file) in files.enumerated() {
                try TinyModel.write(to: FilePath(file), seed: UInt64(seed + 1))
            }
            try makeDirectory(FilePath(directory + "/models"))
            try body(directory + "/models", files[0], files[1])
        }
    }

    @Test(
        "a daemon serves what is installed at once, what was before after a rollback, and nothing after a removal"
    )
    func served() throws {
        try withFiles { models, one, two in
            try Program.withDaemon(models: models) { environment in
                func run(_ arguments: String...) throws -> Program.Result {
                    try Program.run(arguments, environment: environment)
                }
                func digest() throws -> Substring? {
                    let lines = try run("generate", "--json", "-n", "1", "--temperature", "0", "a")
                        .lines
                    return lines.first?.firstMatch(of: /"model_digest":"([0-9a-f]+)"/)?.1
                }
                let first = try run("install", one, "--as", "m")
                #expect(first.status == 0 && first.output.hasPrefix("installed version "))
                #expect(first.errors.isEmpty)
                #expect(
                    try digest().map(String.init) == PackedFile(path: FilePath(one)).modelDigest)
                let second = try run("install", two, "--as", "m", "--json")
                #expect(second.output.contains("\"daemon\":\"reloaded\""))
                #expect(second.output.contains("\"copied\":\""))
                #expect(
                    try digest().map(String.init) == PackedFile(path: FilePath(two)).modelDigest)
                let versions = try run("versions", "m")
                #expect(versions.lines.count == 3)
                #expect(versions.lines.last?.contains(" * ") == true)
                #expect(try run("rollback", "m").status == 0)
                #expect(
                    try digest().map(String.init) == PackedFile(path: FilePath(one)).modelDigest)
                #expect(try run("remove", "m").output.hasPrefix("removed m: "))
                #expect(try run("generate", "a").status == 66)
                #expect(TestSupport.names(in: FilePath(models)).isEmpty)
            }
        }
    }

    @Test("without a daemon the files are changed all the same, and that is told")
    func alone() throws {
        try withFiles { models, one, two in
            func run(_ arguments: String...) throws -> Program.Result {
                try Program.run(arguments + ["-d", models], environment: nobody)
            }
            let first = try run("install", one)
            #expect(first.status == 0)
            #expect(first.output.hasPrefix("installed version "))
            #expect(first.errors.contains("no daemon is running"))
            #expect(
                try run("install", one).output.contains("is the current one already, and whole"))
            let lines = try run("versions", "--json").lines
            #expect(lines.count == 1 && lines[0].contains("\"name\":\"one\""))
            #expect(lines[0].contains("\"is_current\":true"))
            #expect(try run("rollback", "one").status == 66)
            #expect(try run("rollback", "two").errors.contains("there is no model 'two'"))
            #expect(try run("remove", "one", "--version", "0000").status == 66)
            #expect(try run("versions", "two").status == 66)
            #expect(try run("install", one, "--as", ".m").status == 64)
            #expect(try run("install", one, "--keep", "-1").status == 64)
            #expect(try run("install", models + "/none.gguf").status == 66)
            #expect(try run("remove", "one").status == 0)
            #expect(try run("install", two, "--as", "x/y").status == 64)
        }
    }

    @Test("an odd file name needs --as; an installed file may be installed under another name")
    func names() throws {
        try withFiles { models, one, _ in
            let odd = models + "/../a b"
            try FileManager.default.copyItem(atPath: one, toPath: odd)
            let result = try Program.run(["install", odd, "-d", models], environment: nobody)
            #expect(result.status == 64 && result.errors.contains("--as NAME"))
            for (file, name) in [(odd, "a"), (models + "/a.gguf", "b")] {
                let result = try Program.run(
                    ["install", file, "--as", name, "-d", models], environment: nobody)
                #expect(result.status == 0, "\(result.errors)")
            }
            #expect(TestSupport.names(in: FilePath(models)) == [".versions", "a.gguf", "b.gguf"])
        }
    }

    @Test("a file system that takes no more leaves what was there")
    func full() throws {
        try withFiles { models, one, two in
            let line = ["install", "--as", "m", "-d", models]
            #expect(try Program.run(line + [one], environment: nobody).status == 0)
            let before = try FileIdentity(path: FilePath(models + "/m.gguf"))
            let size = try FileIdentity(path: FilePath(two)).size
            let result = try Program.run(
                line + [two], environment: nobody,
                shell: "trap '' XFSZ; ulimit -f \(size / 2048); exec \"$0\" \"$@\"")
            #expect(result.status == 74 && result.errors.contains("File too large"))
            #expect(try FileIdentity(path: FilePath(models + "/m.gguf")) == before)
            let versions = try Program.run(["versions", "m", "-d", models], environment: nobody)
            #expect(versions.lines.count == 2)
        }
    }

    @Test("who may not write there is told who may", .enabled(if: getuid() == 0))
    func permission() throws {
        try withFiles { models, one, _ in
            chmod(FilePath(models).removingLastComponent().string, 0o755)
            chmod(one, 0o644)
            for line in [["install", one], ["remove", "one"], ["rollback", "one"]] {
                let result = try Program.run(
                    line + ["-d", models], environment: nobody,
                    shell: "exec setpriv --reuid 65534 --clear-groups -- \"$0\" \"$@\"")
                #expect(result.status == 77)
                #expect(result.errors.contains("that is for root and its owner, user 0"))
            }
            #expect(TestSupport.names(in: FilePath(models)).isEmpty)
        }
    }

    @Test("without a daemon a user's own directory is taken, else the system's")
    func place() {
        let home = ["HOME": "/home/a", "XDG_RUNTIME_DIR": "/run/user/1000"]
        func own(_ user: UInt32, _ variables: [String: String]) -> String? {
            ModelPlace.own(user: user) { variables[$0] }
        }
        #expect(own(1000, home) == "/home/a/.local/share/mmfreed/models")
        #expect(own(1000, home.merging(["XDG_DATA_HOME": "/d"]) { $1 }) == "/d/mmfreed/models")
        #expect(own(0, home) == nil)
        #expect(own(1000, ["HOME": "/home/a"]) == nil)
    }
}

@Suite("Models in memory, as the programs tell")
struct ResidencyVerbTests {
    @Test("a line of maps tells the file, whatever its name")
    func maps() {
        func area(_ line: String) -> String? {
            Processes.area(line).map { "\($0.start) \($0.key.device) \($0.key.inode)" }
        }
        #expect(area("7f10-7f20 r--s 00000000 fe:01 1234 /srv/a b.gguf\n") == "32528 65025 1234")
        #expect(
            area("7f10-7f20 r--s 00000000 fe:01 1234 /srv/a.gguf (deleted)\n") == "32528 65025 1234"
        )
        #expect(area("7f10-7f20 rw-p 00000000 00:00 0 \n") == nil)
        #expect(area("7f10-7f20 rw-p 00000000 00:00 0 [heap]\n") == nil)
        #expect(area("") == nil)
    }

    @Test("who has a model mapped is counted; load, pin and unload change what is in memory")
    func counted() throws {
        // A file of its own: other tests have the bundled one mapped.
        let place = try makeTemporaryDirectory()
        defer { try? removeFile(place) }
        let file = place.appending("demo.gguf")
        try write(bytes(of: FilePath(Program.demo)), to: file)
        try Program.withDaemon(models: place.string) { environment in
            func run(_ arguments: String...) throws -> Program.Result {
                try Program.run(arguments, environment: environment)
            }
            func models() throws -> String { try run("models", "--json").output }
            #expect(try run("load").output == "demo: 5.29 MB read in memory\n")
            #expect(try models().contains("\"memory\":\"loaded\""))
            #expect(try models().contains("\"resident_bytes\":5287936,"))
            #expect(try models().contains("\"processes\":1,"))
            let second = try MappedFile(path: file)
            #expect(try models().contains("\"processes\":2,"))
            withExtendedLifetime(second) {}
            #expect(try run("unload", "demo").output == "unloaded demo\n")
            #expect(try models().contains("\"state\":\"unloaded\""))
            #expect(try run("pin", "none").status == 66)
            #expect(try run("generate", "-n", "1", "a").status == 0)
            let table = try run("models").lines
            #expect(table.first?.contains("CACHED") == true && table.last?.contains("MB") == true)
        }
    }
}
