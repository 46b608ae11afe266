// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import ModelStore
import SystemPackage

struct Install: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Put a packed file into the daemon's models, in place of the version before.",
        discussion: """
            Every digest is checked. NAME.gguf leads to the version before or to the new one, never to a part of either; \
            requests under way finish with the version they began with. For root, or the owner of the directory.
            """)

    @Argument(help: "The packed file.", completion: .file(extensions: ["gguf"])) var file: String
    @Option(
        help: "What clients call the model. Default: the file's name without .gguf.",
        completion: .custom { words, _, _ in await Completion.models(words) })
    var `as`: String?
    @Option(help: "How many earlier versions to keep for `rollback`.") var keep = 2
    @OptionGroup var place: ModelPlace
    @Flag(help: "One JSON object.") var json = false

    func validate() throws {
        if let name = self.as { try ModelName.check(name) }
        if keep < 0 { throw ValidationError("--keep is \(keep); it must be 0 or more") }
    }

    private struct Row: Encodable {
        let name, version, path, protection, daemon: String
        let bytes: Int
        let copied, previous: String?
        let removed: [String]
    }

    func run() async throws {
        Interruption.watch()
        let source = try open(file)
        let found = ModelDirectory.modelName(FilePath(file).lastComponent?.string ?? "")
        guard let name = self.as ?? found else {
            throw Failure(
                "the file's name does not tell what the model is called: say it with --as NAME",
                .usage)
        }
        let (installed, versions) = try await install(source, name)
        let notice = try await place.tell()
        if json {
            return Terminal.print(
                try Terminal.json(
                    Row(
                        name: name, version: installed.id, path: versions.link.string,
                        protection: installed.unprotected == nil ? "verity" : "plain",
                        daemon: notice.word, bytes: source.byteCount,
                        copied: installed.copy?.rawValue, previous: installed.previous,
                        removed: installed.removed)))
        }
        let version = "version \(installed.id.prefix(12)) of \(name)"
        if let copy = installed.copy {
            let how = copy == .reflink ? "shares its blocks with the file" : "copied"
            Terminal.print(
                "installed \(version): \(Terminal.bytes(source.byteCount)), \(how)"
                    + (installed.previous.map { ", in place of \($0.prefix(12))" } ?? ""))
        } else {
            Terminal.print("\(version) is the current one already, and whole")
        }
        Terminal.print(
            installed.unprotected.map {
                "not protected by fs-verity: the file system does not do it (\($0))"
            } ?? "protected by fs-verity")
        if !installed.removed.isEmpty {
            let list = installed.removed.map { String($0.prefix(12)) }.joined(separator: ", ")
            Terminal.print("removed: \(list)")
        }
        if let note = notice.note { Terminal.note(note) }
    }

    /// Nobody else changes models until this returns.
    private func install(
        _ source: PackedFile, _ name: String
    ) async throws -> (VersionChange.Installed, ModelVersions) {
        let change = try await place.change(name)
        let progress = ProgressLine()
        let installed = try change.install(source, keep: keep) { packed in
            progress.clear()
            try packed.checkWhole(file)
        } progress: { done, total in
            progress.show(done, of: total, "copying")
            return !Interruption.isWanted
        }
        progress.clear()
        return (installed, change.versions)
    }
}
