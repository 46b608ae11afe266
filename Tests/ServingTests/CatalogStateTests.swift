// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import ModelStore
import RPC
import SystemPackage
import TestSupport
import Testing

@testable import Serving

/// A catalog over directories that are changed between scans, its files opened by hand.
final class CatalogOnDisk {
    let root: FilePath
    let directory: ModelDirectory
    var state: CatalogState

    init(_ root: FilePath, places: [String] = ["a", "b"], defaultModel: String? = nil) throws {
        self.root = root
        for place in places { try makeDirectory(root.appending(place)) }
        directory = ModelDirectory(places.map { root.appending($0) })
        state = CatalogState(
            places: places, defaultModel: defaultModel, user: getuid())
    }

    func path(_ file: String) -> FilePath { FilePath(root.string + "/" + file) }

    func scan() -> CatalogState.Changes { state.merge(directory.scan()) }

    /// What a request for `name` gets, its file looked at now.
    func admit(
        _ name: String, mayRetry: Bool = true, at time: UInt64 = 0
    ) -> CatalogState.Verdict {
        let path = state.entries[name]?.file.path ?? FilePath("/nowhere")
        let now = Result { () throws(StoreError) in try FileIdentity(path: path) }
        return state.admit(name, now, mayRetry: mayRetry, at: time)
    }

    /// Opens what is to be opened. Returns whose digests were compared.
    @discardableResult
    func open(at time: UInt64 = 0) -> [String] {
        var verified: [String] = []
        while let entry = state.nextToOpen() {
            if entry.isSuspect { verified.append(entry.file.name) }
            _ = state.opened(
                entry, ModelCatalog.load(entry, .testing) { true }, preparing: nil, at: time)
        }
        return verified
    }

    func nextToOpen() -> CatalogState.Entry? { state.nextToOpen() }

    func opened(
        _ entry: CatalogState.Entry, _ result: Result<LoadedModel, Refusal>,
        preparing size: Int? = nil, at time: UInt64 = 0
    ) -> Bool {
        state.opened(entry, result, preparing: size, at: time)
    }

    func takeLeaving() -> [Model] { state.takeLeaving().map(\.model) }

    /// The version a request for `name` gets, opened if need be.
    func served(_ name: String) -> LoadedModel? {
        for _ in 0..<2 {
            if case .serve(let version) = admit(name) { return version }
            open()
        }
        return nil
    }
}

func withCatalog<R>(
    _ places: [String] = ["a", "b"], defaultModel: String? = nil,
    _ body: (CatalogOnDisk) throws -> R
) throws -> R {
    try withDirectory { root in
        try body(CatalogOnDisk(root, places: places, defaultModel: defaultModel))
    }
}

private func isRefused(_ verdict: CatalogState.Verdict, _ cause: Refusal.Cause) -> Bool {
    if case .fail(.refused(_, let refusal)) = verdict { refusal.cause == cause } else { false }
}

private func isWaiting(_ verdict: CatalogState.Verdict) -> Bool {
    if case .wait = verdict { true } else { false }
}

private func isGone(_ verdict: CatalogState.Verdict) -> Bool {
    if case .gone = verdict { true } else { false }
}

@Suite("The model of requests that name none")
struct DefaultModelTests {
    /// Files by path; what is in them: "model" or garbage. `choice` asks again after opening what is unclear.
    private func choice(
        _ files: [String: String], defaultModel: String? = nil
    ) throws -> CatalogState.Choice {
        try withCatalog(defaultModel: defaultModel) { catalog in
            for (file, kind) in files {
                if kind == "model" {
                    try TinyModel.write(to: catalog.path(file))
                } else {
                    try write(Array(kind.utf8), to: catalog.path(file))
                }
            }
            _ = catalog.scan()
            for _ in 0..<10 {
                switch catalog.state.choice() {
                case .unclear(let name): catalog.state.want(name)
                case .model(let name):
                    if case .serve = catalog.admit(name) { return .model(name) }
                case .fail(let error): return .fail(error)
                }
                catalog.open()
            }
            return catalog.state.choice()
        }
    }

    @Test("is the only one")
    func only() throws {
        #expect(try choice(["b/one.gguf": "model"]) == .model("one"))
    }

    @Test("is the only one of the first directory that has any; later directories do not count")
    func first() throws {
        #expect(
            try choice([
                "a/own.gguf": "model", "b/demo.gguf": "model", "b/other.gguf": "model",
            ]) == .model("own"))
    }

    @Test("is the only usable one: files that are refused are no candidates")
    func usable() throws {
        #expect(
            try choice([
                "a/broken.gguf": "GGUF", "a/junk.gguf": "junk", "a/zown.gguf": "model",
                "b/demo.gguf": "model",
            ]) == .model("zown"))
    }

    @Test("is a later directory's, if the first has none that can be used")
    func later() throws {
        #expect(
            try choice(["a/broken.gguf": "GGUF", "b/demo.gguf": "model"]) == .model("demo"))
    }

    @Test("is the one that is set, even if it is in a later directory or cannot be used")
    func set() throws {
        let files = ["a/own.gguf": "model", "b/demo.gguf": "model"]
        #expect(try choice(files, defaultModel: "demo") == .model("demo"))
        #expect(
            try choice(files, defaultModel: "nope")
                == .fail(
                    .unknown("nope", isDefault: true, names: ["demo", "own"], places: ["a", "b"])))
    }

    @Test("is asked for if there are several, by names and ways to say which")
    func several() throws {
        let choice = try choice(["a/x.gguf": "model", "a/y.gguf": "model"])
        #expect(choice == .fail(.ambiguous(["x", "y"])))
        guard case .fail(let error) = choice else { return }
        #expect(
            RPCError(error).message
                == "model: say which with -m NAME or $MMFREED_MODEL (there are x, y), or set default_model"
        )
    }

    @Test("is refused with the reasons if none can be used, and missing if there are none")
    func none() throws {
        guard case .fail(let error) = try choice(["a/x.gguf": "junk"]) else {
            Issue.record("x is no model")
            return
        }
        #expect(RPCError(error).code == .dataLoss)
        #expect(RPCError(error).message.contains("'x'"))
        #expect(try choice([:]) == .fail(.empty(places: ["a", "b"])))
    }

    @Test("is the other one when one of two is gone, without a reload")
    func gone() throws {
        try withCatalog { catalog in
            for name in ["x", "y"] { try TinyModel.write(to: catalog.path("a/\(name).gguf")) }
            _ = catalog.scan()
            for name in ["x", "y"] { #expect(catalog.served(name) != nil) }
            #expect(catalog.state.choice() == .fail(.ambiguous(["x", "y"])))
            unlink(catalog.path("a/y.gguf").string)
            #expect(isGone(catalog.admit("y")))
            #expect(catalog.state.choice() == .model("x"))
        }
    }
}

@Suite("A model's file")
struct CatalogFileTests {
    @Test("is opened when it is first asked for, once for all who wait")
    func opened() throws {
        try withCatalog { catalog in
            try TinyModel.write(to: catalog.path("a/m.gguf"))
            #expect(catalog.scan().added == ["m"])
            #expect(isWaiting(catalog.admit("m")))
            #expect(isWaiting(catalog.admit("m")))
            #expect(catalog.state.toOpen == ["m"])
            catalog.open()
            #expect(catalog.served("m")?.model.digest.count == 64)
        }
    }

    @Test(
        "that is replaced is opened anew at the next request, without a reload; the old version is retired"
    )
    func replaced() throws {
        try withCatalog { catalog in
            try TinyModel.write(to: catalog.path("a/m.gguf"))
            _ = catalog.scan()
            let old = try #require(catalog.served("m"))
            try TinyModel.write(to: catalog.path("a/m.gguf"), seed: 2, replacing: true)
            #expect(isWaiting(catalog.admit("m")))
            #expect(catalog.open().isEmpty, "another file needs no comparison of digests first")
            let new = try #require(catalog.served("m"))
            #expect(new.model.digest != old.model.digest)
            #expect(old.isRetired)
            #expect(!new.isRetired)
            #expect(old.model.damage == nil, "requests under way go on with it")
            #expect(catalog.takeLeaving().map(\.digest) == [old.model.digest])
            #expect(catalog.state.versions(of: "m") == 2)
        }
    }

    @Test("that is written in place has its digests compared before it is served again")
    func writtenInPlace() throws {
        try withCatalog { catalog in
            let path = catalog.path("a/m.gguf")
            try TinyModel.write(to: path)
            let sound = try bytes(of: path)
            _ = catalog.scan()
            let old = try #require(catalog.served("m"))
            try passFileTime(in: "/tmp")
            var damaged = sound
            damaged[sound.count - 1] ^= 1
            try write(damaged, to: path)
            #expect(old.model.damage == .written)
            #expect(isWaiting(catalog.admit("m")))
            #expect(catalog.open() == ["m"])
            #expect(isRefused(catalog.admit("m"), .damaged))
            try passFileTime(in: "/tmp")
            try write(sound, to: path)
            #expect(catalog.served("m")?.model.digest == old.model.digest)
        }
    }

    @Test(
        "that is touched goes on, its digests compared, and requests under way are not ended by a new mode"
    )
    func touched() throws {
        try withCatalog { catalog in
            let path = catalog.path("a/m.gguf")
            try TinyModel.write(to: path)
            _ = catalog.scan()
            let old = try #require(catalog.served("m"))
            #expect(chmod(path.string, 0o400) == 0)
            #expect(old.model.damage == nil)
            #expect(isWaiting(catalog.admit("m")))
            #expect(catalog.open() == ["m"])
            #expect(catalog.served("m") != nil)
        }
    }

    @Test("that is damaged is refused until it is another one, or a reload asks")
    func refused() throws {
        try withCatalog { catalog in
            let path = catalog.path("a/m.gguf")
            try write(Array("not a model".utf8), to: path)
            _ = catalog.scan()
            #expect(catalog.served("m") == nil)
            for time in [0, 5_000_000_000] as [UInt64] {
                #expect(isRefused(catalog.admit("m", at: time), .damaged))
            }
            let changes = catalog.scan()
            #expect(changes == CatalogState.Changes())
            #expect(isWaiting(catalog.admit("m")))
            catalog.open()
            try TinyModel.write(to: path, replacing: true)
            #expect(isRefused(catalog.admit("m", mayRetry: false), .damaged))
            #expect(catalog.served("m") != nil)
        }
    }

    @Test("that cannot be read now is tried again after a second")
    func unreadable() throws {
        try withCatalog { catalog in
            try TinyModel.write(to: catalog.path("a/m.gguf"))
            _ = catalog.scan()
            _ = catalog.admit("m", at: 7)
            let entry = try #require(catalog.nextToOpen())
            let refusal = Refusal(StoreError.io(.tooManyOpenFiles, doing: "open", "m"))
            #expect(catalog.opened(entry, .failure(refusal), preparing: nil, at: 7))
            #expect(isRefused(catalog.admit("m", at: 1_000_000_000), .unreadable))
            #expect(isWaiting(catalog.admit("m", at: 1_000_000_008)))
        }
    }

    @Test("that is replaced while it is being opened is opened again: neither is lost")
    func crossing() throws {
        try withCatalog { catalog in
            try TinyModel.write(to: catalog.path("a/m.gguf"))
            _ = catalog.scan()
            _ = catalog.admit("m")
            let entry = try #require(catalog.nextToOpen())
            let version = try ModelCatalog.load(entry, .testing) { true }.get()
            try TinyModel.write(to: catalog.path("a/m.gguf"), seed: 2, replacing: true)
            #expect(catalog.scan().replaced == ["m"])
            #expect(!catalog.opened(entry, .success(version), preparing: nil, at: 0))
            #expect(catalog.state.isUnsettled("m"))
            catalog.open()
            #expect(try #require(catalog.served("m")).model.digest != version.model.digest)
            #expect(catalog.state.versions(of: "m") == 1)
        }
    }

    @Test("that is removed while it is being opened is forgotten")
    func removedWhileOpening() throws {
        try withCatalog { catalog in
            try TinyModel.write(to: catalog.path("a/m.gguf"))
            _ = catalog.scan()
            _ = catalog.admit("m")
            let entry = try #require(catalog.nextToOpen())
            let result = ModelCatalog.load(entry, .testing) { true }
            unlink(catalog.path("a/m.gguf").string)
            #expect(catalog.scan().removed == ["m"])
            #expect(!catalog.opened(entry, result, preparing: nil, at: 0))
            #expect(isGone(catalog.admit("m")))
        }
    }

    @Test("whose bytes are not what its digests tell is condemned, and stays so until it changes")
    func condemned() throws {
        try withCatalog { catalog in
            let path = catalog.path("a/m.gguf")
            try TinyModel.write(to: path)
            var damaged = try bytes(of: path)
            damaged[damaged.count - 1] ^= 1
            try write(damaged, to: path)
            _ = catalog.scan()
            let version = try #require(catalog.served("m"))
            #expect(throws: StoreError.self) { try version.model.file.verify() }
            #expect(version.model.damage == .corrupt)
            catalog.state.condemn(version, Refusal(.damaged, "tensor"), at: 0)
            #expect(version.isRetired)
            #expect(isRefused(catalog.admit("m"), .damaged))
            // A reload tries again, and compares before it serves.
            _ = catalog.scan()
            #expect(catalog.served("m") == nil)
        }
    }

    @Test("being read into memory tells how far it is")
    func preparing() throws {
        try withCatalog { catalog in
            try TinyModel.write(to: catalog.path("a/m.gguf"))
            _ = catalog.scan()
            _ = catalog.admit("m")
            let entry = try #require(catalog.nextToOpen())
            let version = try ModelCatalog.load(entry, .testing) { true }.get()
            #expect(catalog.opened(entry, .success(version), preparing: 1000, at: 0))
            catalog.state.prepared(version, done: 400, isComplete: false)
            guard case .fail(let error) = catalog.admit("m") else {
                Issue.record("it is not ready")
                return
            }
            #expect(error == .preparing("m", done: 400, of: 1000))
            #expect(RPCError(error).code == .unavailable)
            #expect(RPCError(error).retryAfter == 1_000_000_000)
            #expect(catalog.state.entries["m"]?.info.state == "loading")
            catalog.state.prepared(version, done: 1000, isComplete: true)
            #expect(catalog.served("m") === version)
        }
    }
}

@Suite("Directories of models")
struct CatalogDirectoryTests {
    @Test("one that cannot be read keeps its models, and says so where models are asked for")
    func unreadable() throws {
        try withCatalog { catalog in
            try TinyModel.write(to: catalog.path("a/m.gguf"))
            try TinyModel.write(to: catalog.path("b/n.gguf"))
            _ = catalog.scan()
            let version = try #require(catalog.served("m"))
            // A file where the directory was: root may read any directory.
            #expect(rename(catalog.path("a").string, catalog.path("was").string) == 0)
            let changes = catalog.scan()
            #expect(changes.removed.isEmpty)
            #expect(changes.warnings.count == 1)
            #expect(changes.warnings[0].contains("No such file or directory"))
            #expect(catalog.state.names == ["m", "n"])
            #expect(!version.isRetired)
            #expect(catalog.scan().warnings.isEmpty, "said once")
            #expect(catalog.state.placesExplained == ["a (No such file or directory)", "b"])
            // It comes back.
            #expect(rename(catalog.path("was").string, catalog.path("a").string) == 0)
            #expect(catalog.scan() == CatalogState.Changes())
            #expect(catalog.served("m") === version)
        }
    }

    @Test("a model whose file may not be looked at any more is still served, for it is open")
    func forbidden() throws {
        try withCatalog { catalog in
            try TinyModel.write(to: catalog.path("a/m.gguf"))
            _ = catalog.scan()
            let version = try #require(catalog.served("m"))
            let verdict = catalog.state.admit(
                "m", .failure(.io(.permissionDenied, doing: "examine", "m")), mayRetry: true,
                at: 0)
            guard case .serve(let served) = verdict else {
                Issue.record("it is not served")
                return
            }
            #expect(served === version)
        }
    }

    @Test(
        "files that look like models and are passed over, and copies that are hidden, are warned of once"
    )
    func skipped() throws {
        try withCatalog { catalog in
            for file in ["a/my model.gguf", "a/x.GGUF", "a/\u{e9}.gguf", "a/new\nline.gguf"] {
                try write([1], to: catalog.path(file))
            }
            symlink("nowhere", catalog.path("a/dangling.gguf").string)
            try TinyModel.write(to: catalog.path("a/m.gguf"))
            try TinyModel.write(to: catalog.path("b/m.gguf"))
            let warnings = catalog.scan().warnings
            #expect(warnings.count == 6)
            for (file, word) in [
                ("my model.gguf", "letters, digits"), ("x.GGUF", "must end in .gguf"),
                ("\u{e9}.gguf", "letters, digits"), ("new?line.gguf", "letters, digits"),
                ("dangling.gguf", "symbolic link"), ("b/m.gguf", "hidden by"),
            ] {
                #expect(
                    warnings.contains { $0.contains(file) && $0.contains(word) }, "\(file)")
            }
            #expect(catalog.scan().warnings.isEmpty)
            #expect(catalog.state.skipped.count == 6)
        }
    }

    @Test("an unusable file that hides another of its name says so; an empty one is damaged")
    func hiding() throws {
        try withCatalog { catalog in
            try write([], to: catalog.path("a/m.gguf"))
            try TinyModel.write(to: catalog.path("b/m.gguf"))
            _ = catalog.scan()
            _ = catalog.served("m")
            guard case .refused(let refusal, _)? = catalog.state.entries["m"]?.state else {
                Issue.record("served")
                return
            }
            #expect(refusal.cause == .damaged)
            #expect(refusal.reason.hasSuffix("; it hides \(catalog.path("b/m.gguf"))"))
        }
    }

    @Test(
        "a file that others may write, or that belongs to neither root nor the daemon, is warned of"
    )
    func owners() throws {
        try withCatalog { catalog in
            let path = catalog.path("a/m.gguf")
            try TinyModel.write(to: path)
            #expect(catalog.scan().warnings.isEmpty)
            #expect(chmod(path.string, 0o664) == 0)
            #expect(
                catalog.scan().warnings.first?.contains("may be written by users other") == true)
            guard getuid() == 0 else { return }
            #expect(chmod(path.string, 0o644) == 0)
            #expect(chown(path.string, 65534, 65534) == 0)
            #expect(catalog.scan().warnings.first?.contains("belongs to user 65534") == true)
        }
    }

    @Test("a place may be one file")
    func file() throws {
        try withDirectory { root in
            let path = root.appending("only.gguf")
            try TinyModel.write(to: path)
            #expect(ModelDirectory([path]).scan().entries.map(\.name) == ["only"])
            let odd = root.appending("only.bin")
            try write([1], to: odd)
            let scan = ModelDirectory([odd]).scan()
            #expect(scan.entries.isEmpty)
            #expect(scan.skipped.map(\.reason) == ["the name must end in .gguf; rename the file"])
        }
    }
}

@Suite("Requests that wait for a file")
struct WaitingRequestsTests {
    private func add(
        _ waiting: inout WaitingRequests, _ names: Set<String>, user: UInt32 = 1, bytes: Int = 10
    ) -> UInt64? {
        waiting.add(names, account: Account(uid: user), bytes: bytes) { _ in }
    }

    @Test("go on when all they wait for is settled, in the order they came")
    func settle() {
        var waiting = WaitingRequests(limit: 9, perUser: 9)
        _ = add(&waiting, ["a"], bytes: 1)
        _ = add(&waiting, ["a", "b"], bytes: 2)
        _ = add(&waiting, ["a"], bytes: 3)
        #expect(waiting.settle("a").map(\.bytes) == [1, 3])
        #expect(waiting.settle("a").isEmpty)
        #expect(waiting.settle("b").map(\.bytes) == [2])
        #expect(waiting.count == 0)
    }

    @Test("are bounded in all, for a user, and in a user's bytes; one of any size always fits")
    func bounds() {
        var waiting = WaitingRequests(limit: 3, perUser: 2)
        #expect(add(&waiting, ["a"], bytes: WaitingRequests.bytesPerUser + 1) != nil)
        #expect(add(&waiting, ["a"]) == nil)
        #expect(add(&waiting, ["a"], user: 2) != nil)
        #expect(add(&waiting, ["a"], user: 2) != nil)
        #expect(add(&waiting, ["a"], user: 2) == nil)
        #expect(add(&waiting, ["a"], user: 3) == nil)
    }

    @Test("are taken out once, when time is up or the caller has gone")
    func remove() throws {
        var waiting = WaitingRequests(limit: 3, perUser: 3)
        let number = try #require(add(&waiting, ["a"]))
        #expect(waiting.remove(number) != nil)
        #expect(waiting.remove(number) == nil)
        #expect(waiting.settle("a").isEmpty)
    }
}

@Suite("What is wanted in memory")
struct MemoryStateTests {
    private func isWanted(_ catalog: CatalogOnDisk) -> CatalogState.Memory? {
        catalog.state.entries["m"]?.memory
    }

    @Test(
        "a replaced model that was loaded is opened before anybody asks for it; one that was not waits"
    )
    func replaced() throws {
        for memory in [CatalogState.Memory.asNeeded, .loaded, .pinned] {
            try withCatalog { catalog in
                try TinyModel.write(to: catalog.path("a/m.gguf"))
                _ = catalog.scan()
                let version = try #require(catalog.served("m"))
                catalog.state.setMemory(memory, of: version)
                try TinyModel.write(to: catalog.path("a/m.gguf"), seed: 2, replacing: true)
                #expect(catalog.scan().replaced == ["m"])
                #expect(catalog.state.toOpen == (memory.isWanted ? ["m"] : []))
                catalog.open()
                #expect(isWanted(catalog) == memory)
                #expect(catalog.served("m") !== version)
            }
        }
    }

    @Test("an unloaded model is not opened by listings, but by requests; what it was is still told")
    func unloaded() throws {
        try withCatalog { catalog in
            try TinyModel.write(to: catalog.path("a/m.gguf"))
            _ = catalog.scan()
            let version = try #require(catalog.served("m"))
            catalog.state.setMemory(.pinned, of: version)
            catalog.state.unload("m")
            #expect(version.isRetired && catalog.takeLeaving().count == 1)
            catalog.state.want("m")
            #expect(catalog.state.toOpen.isEmpty)
            let info = try #require(catalog.state.entries["m"]?.info)
            #expect(info.state == "unloaded" && info.digest == version.info.digest)
            #expect(catalog.served("m") != nil)
            #expect(isWanted(catalog) == .asNeeded)
        }
    }
}
