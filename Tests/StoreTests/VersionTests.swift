// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import SystemPackage
import TestSupport
import Testing

@Suite("Versions of a model change whole, in one step, and can be gone back to")
struct VersionTests {
    /// A directory of models, and packed files to install in it.
    private struct Place {
        let models: FilePath
        private let files: FilePath

        init(_ directory: FilePath) throws {
            models = directory.appending("models")
            files = directory.appending("files")
            for path in [models, files] { try makeDirectory(path) }
        }

        func file(_ seed: UInt64) throws -> FilePath {
            let path = files.appending("\(seed).gguf")
            if access(path.string, F_OK) != 0 { try TinyModel.write(to: path, seed: seed) }
            return path
        }

        func change(_ name: String = "m") throws -> VersionChange {
            try VersionChange(of: name, in: models) {}
        }

        @discardableResult
        func install(
            _ seed: UInt64, keep: Int = 2, name: String = "m"
        ) throws -> VersionChange.Installed {
            try change(name).install(
                PackedFile(path: file(seed)), keep: keep, check: { try $0.verify() },
                progress: { _, _ in true })
        }

        @discardableResult
        func rollback(_ version: String? = nil) throws -> String {
            try change().rollback(to: version, check: { try $0.verify() }).id
        }

        func digest(_ seed: UInt64) throws -> String {
            try PackedFile(path: file(seed)).modelDigest
        }

        /// The seed of the file that is served.
        func served() throws -> UInt64? {
            let bytes = try bytes(of: models.appending("m.gguf"))
            return try (1...9).first {
                let path = files.appending("\($0).gguf")
                guard access(path.string, F_OK) == 0 else { return false }
                return try TestSupport.bytes(of: path) == bytes
            }
        }

        /// Seeds of the versions that are kept, oldest first.
        func kept() throws -> [UInt64?] {
            let ids = ModelVersions(of: "m", in: models).list.map(\.id)
            return try ids.map { id in
                try (1...9).first {
                    guard access(files.appending("\($0).gguf").string, F_OK) == 0 else {
                        return false
                    }
                    return try digest($0) == id
                }
            }
        }

        var names: [String] { TestSupport.names(in: models) }
        var stored: [String] {
            TestSupport.names(in: models.appending(".versions").appending("m"))
        }
    }

    private func withPlace(_ body: (Place) throws -> Void) throws {
        try withDirectory { try body(Place($0)) }
    }

    @Test("NAME.gguf is a link to a file named by its digest, which everybody may read")
    func first() throws {
        try withPlace { place in
            let installed = try place.install(1)
            #expect(installed.id == (try place.digest(1)))
            #expect(installed.previous == nil)
            #expect(place.names == [".versions", "m.gguf"])
            #expect(place.stored == ["\(installed.id).gguf", "order"])
            var buffer = [CChar](repeating: 0, count: 200)
            readlink(place.models.appending("m.gguf").string, &buffer, 199)
            #expect(
                String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init), as: UTF8.self)
                    == ".versions/m/\(installed.id).gguf")
            #expect(try place.served() == 1)
            let scan = ModelDirectory([place.models]).scan()
            #expect(scan.entries.map(\.name) == ["m"] && scan.skipped.isEmpty)
            #expect(scan.entries[0].identity.mode == 0o644)
        }
    }

    @Test(
        "one version takes another's place; going back goes by the order in which they were current"
    )
    func order() throws {
        try withPlace { place in
            for seed in UInt64(1)...3 { try place.install(seed) }
            #expect(try place.served() == 3)
            #expect(try place.kept() == [1, 2, 3])
            try place.rollback()
            #expect(try place.served() == 2)
            try place.rollback()
            #expect(try place.served() == 1)
            #expect(throws: VersionError.self) { try place.rollback() }
            try place.rollback(String(place.digest(3).prefix(8)))
            #expect(try place.served() == 3)
            try place.rollback()
            // What was gone back from is not what one goes back to.
            try place.install(4)
            #expect(try place.kept() == [1, 2, 4])
            try place.rollback()
            #expect(try place.served() == 2)
            // Installed again, an older one is the newest.
            try place.install(1)
            try place.rollback()
            #expect(try place.served() == 2)
        }
    }

    @Test("so many earlier versions are kept as asked, and always the current one")
    func keep() throws {
        try withPlace { place in
            for seed in UInt64(1)...4 { try place.install(seed) }
            #expect(try place.kept() == [2, 3, 4])
            let mapped = try PackedFile(path: place.models.appending("m.gguf"))
            let installed = try place.install(5, keep: 0)
            #expect(installed.removed.count == 3)
            #expect(try place.kept() == [5])
            // Whoever has it mapped keeps it.
            try mapped.verify()
            #expect(mapped.damage == nil)
        }
    }

    @Test("an administrator's own file is the first version; so is a link of the administrator's")
    func own() throws {
        try withPlace { place in
            let own = place.models.appending("m.gguf")
            try copy(place.file(1), to: own)
            #expect(try place.kept() == [1])
            let installed = try place.install(2)
            #expect(installed.previous == (try place.digest(1)))
            #expect(try place.kept() == [1, 2])
            try place.rollback()
            #expect(try place.served() == 1)
            // mv over what was installed.
            let moved = place.models.appending(".moved")
            try copy(place.file(3), to: moved)
            #expect(rename(moved.string, own.string) == 0)
            #expect(ModelVersions(of: "m", in: place.models).list.last?.isCurrent == true)
            try place.install(4)
            try place.rollback()
            #expect(try place.served() == 3)
            unlink(own.string)
            #expect(symlink(try place.file(5).string, own.string) == 0)
            try place.install(6)
            try place.rollback()
            #expect(try place.served() == 5)
        }
    }

    @Test("a file that is not a model is replaced, and kept as what it is")
    func foreign() throws {
        try withPlace { place in
            try write([1, 2, 3], to: place.models.appending("m.gguf"))
            try place.install(1)
            #expect(try place.served() == 1)
            let list = ModelVersions(of: "m", in: place.models).list
            #expect(list[0].id.hasPrefix("unreadable-") && list[0].problem != nil)
            #expect(try bytes(of: list[0].path) == [1, 2, 3])
            #expect(throws: StoreError.self) { try place.rollback() }
            #expect(try place.served() == 1)
        }
    }

    @Test("a directory under the model's name is refused and stays")
    func directory() throws {
        try withPlace { place in
            try makeDirectory(place.models.appending("m.gguf"))
            #expect(throws: StoreError.self) { try place.install(1) }
            #expect(place.names == ["m.gguf"])
        }
    }

    @Test("a damaged file changes nothing and leaves nothing", arguments: [false, true])
    func damaged(hasOne: Bool) throws {
        try withPlace { place in
            if hasOne { try place.install(1) }
            let before = place.names + place.stored
            let file = try place.file(2)
            var rotten = try bytes(of: file)
            rotten[rotten.count - 1] ^= 1
            try write(rotten, to: file)
            #expect(throws: StoreError.self) { try place.install(2) }
            #expect(place.names + place.stored == before)
            #expect(try !hasOne || place.served() == 1)
        }
    }

    @Test("one that was interrupted changes nothing and leaves nothing")
    func interrupted() throws {
        try withPlace { place in
            #expect(throws: VersionError.interrupted) {
                try place.change().install(
                    PackedFile(path: place.file(1)), keep: 2, check: { try $0.verify() },
                    progress: { _, _ in false })
            }
            #expect(place.names.isEmpty)
        }
    }

    @Test(
        "installing what is current already changes nothing, unless it is damaged: then it is mended"
    )
    func again() throws {
        try withPlace { place in
            try place.install(1)
            try place.install(2)
            let path = place.models.appending("m.gguf")
            let before = try FileIdentity(path: path)
            #expect(try place.install(2).copy == nil)
            #expect(try FileIdentity(path: path) == before)
            var rotten = try bytes(of: path)
            rotten[rotten.count - 1] ^= 1
            try write(rotten, to: path)
            #expect(try place.install(2).copy != nil)
            #expect(try place.served() == 2)
            #expect(try place.kept() == [1, 2])
        }
    }

    @Test("a version that is damaged is not gone back to")
    func damagedVersion() throws {
        try withPlace { place in
            try place.install(1)
            try place.install(2)
            let path = ModelVersions(of: "m", in: place.models).list[0].path
            var rotten = try bytes(of: path)
            rotten[rotten.count - 1] ^= 1
            try write(rotten, to: path)
            #expect(throws: StoreError.self) { try place.rollback() }
            #expect(try place.served() == 2)
            // Written over with something else, through the link.
            try copy(place.file(3), to: path)
            #expect(throws: StoreError.self) { try place.rollback() }
            #expect(
                ModelVersions(of: "m", in: place.models).list[0].problem?.contains("written over")
                    == true)
        }
    }

    @Test("what a killed process left is removed by the next change, and nothing else is")
    func leftovers() throws {
        try withPlace { place in
            let folder = place.models.appending(".versions")
            for path in [folder, folder.appending("m"), folder.appending("empty")] {
                try makeDirectory(path)
            }
            let store = folder.appending("m")
            try copy(place.file(1), to: store.appending(place.digest(1) + ".gguf"))
            #expect(symlink("nowhere", place.models.appending(".next-version").string) == 0)
            try write([1], to: store.appending(".mmfreed-partial-1-a"))
            try place.install(2)
            #expect(place.stored.count == 2 && place.names == [".versions", "m.gguf"])
            #expect(names(in: folder) == ["m"])
            #expect(try place.kept() == [2])
        }
    }

    @Test("one process at a time changes a directory's versions")
    func lock() throws {
        struct Waited: Error {}
        try withPlace { place in
            let first = try place.change()
            #expect(throws: Waited.self) {
                _ = try VersionChange(of: "other", in: place.models) { throw Waited() }
            }
            _ = consume first
            _ = try place.change()
        }
    }

    @Test("a model is removed with all its versions, or one of them; the current one never alone")
    func remove() throws {
        try withPlace { place in
            for seed in UInt64(1)...3 { try place.install(seed) }
            try place.install(1, name: "other")
            let current = try place.digest(3)
            #expect(throws: VersionError.isCurrent("m", current)) {
                try place.change().remove(current)
            }
            #expect(throws: VersionError.self) { try place.change().remove("") }
            #expect(try place.change().remove(place.digest(1)) == [place.digest(1)])
            #expect(try place.kept() == [2, 3])
            #expect(try place.change().remove() == [place.digest(2), place.digest(3)])
            #expect(place.names == [".versions", "other.gguf"])
            #expect(throws: VersionError.noModel("m", place.models, ["other"])) {
                try place.change().remove()
            }
            _ = try place.change("other").remove()
            #expect(place.names.isEmpty)
            try copy(place.file(1), to: place.models.appending("m.gguf"))
            #expect(try place.change().remove() == [place.digest(1)])
            #expect(place.names.isEmpty)
        }
    }

    @Test("after the current one was deleted by hand the last version can be gone back to")
    func deleted() throws {
        try withPlace { place in
            try place.install(1)
            unlink(place.models.appending("m.gguf").string)
            try place.rollback()
            #expect(try place.served() == 1)
        }
    }

    private func copy(_ source: FilePath, to path: FilePath) throws {
        try write(bytes(of: source), to: path)
    }
}
