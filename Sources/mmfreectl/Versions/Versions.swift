// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import ModelStore
import SystemPackage

struct Versions: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the versions of a model that are kept, or of all models.",
        discussion: "The oldest first; the current one has a star.")

    @Argument(
        help: "The model's name.",
        completion: .custom { words, _, _ in await Completion.models(words) })
    var name: String?
    @OptionGroup var place: ModelPlace
    @Flag(help: "One JSON object a version, a line each.") var json = false

    private struct Row: Encodable {
        let name, version, path: String
        let bytes, written: Int
        let isCurrent: Bool
        let error: String?
    }

    func run() async throws {
        if let name { try ModelName.check(name) }
        let directory = try await place.path()
        let names = name.map { [$0] } ?? ModelVersions.names(in: directory)
        var rows: [Row] = []
        for name in names {
            let list = ModelVersions(of: name, in: directory).list
            if list.isEmpty, self.name != nil {
                throw VersionError.noModel(name, directory, ModelVersions.names(in: directory))
            }
            rows += list.map {
                Row(
                    name: name, version: $0.id, path: $0.path.string, bytes: $0.bytes,
                    written: $0.written, isCurrent: $0.isCurrent, error: $0.problem)
            }
        }
        if json {
            for row in rows { Terminal.print(try Terminal.json(row)) }
            return
        }
        guard !rows.isEmpty else { return Terminal.note("no models in \(directory)") }
        var table = Table(["NAME", "VERSION", "SIZE", "WRITTEN", "PATH"], numeric: [2])
        for row in rows {
            table.add([
                row.name, String(row.version.prefix(12)) + (row.isCurrent ? " *" : ""),
                Terminal.bytes(row.bytes), Self.time(row.written), row.error ?? row.path,
            ])
        }
        Terminal.print(table.text)
    }

    /// "2026-01-31 12:30", in the terminal's time zone.
    static func time(_ seconds: Int) -> String {
        var (now, parts) = (time_t(seconds), tm())
        localtime_r(&now, &parts)
        return String(
            printf: "%04d-%02d-%02d %02d:%02d", parts.tm_year + 1900, parts.tm_mon + 1,
            parts.tm_mday, parts.tm_hour, parts.tm_min)
    }
}

struct Rollback: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make the version before the current one current again.",
        discussion: "Its digests are checked first. For root, or the owner of the directory.")

    @OptionGroup var model: ModelName
    @Option(help: "The version to go to: the beginning of what `versions` shows.")
    var version: String?
    @OptionGroup var place: ModelPlace
    @Flag(help: "One JSON object.") var json = false

    private struct Row: Encodable {
        let name, version, daemon: String
        let previous: String?
    }

    func run() async throws {
        Interruption.watch()
        let (id, previous) = try await rollback()
        let notice = try await place.tell()
        if json {
            return Terminal.print(
                try Terminal.json(
                    Row(
                        name: model.name, version: id, daemon: notice.word, previous: previous)))
        }
        Terminal.print(
            "version \(id.prefix(12)) of \(model.name) is current"
                + (previous.map { ", in place of \($0.prefix(12))" } ?? ""))
        if let note = notice.note { Terminal.note(note) }
    }

    private func rollback() async throws -> (id: String, previous: String?) {
        try await place.change(model.name).rollback(to: version) {
            try $0.checkWhole($0.path.string)
        }
    }
}

struct Remove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Remove a model with all its versions, or one version.",
        discussion:
            "Requests under way finish. The file is deleted. For root, or the owner of the directory."
    )

    @OptionGroup var model: ModelName
    @Option(help: "Only this version: the beginning of what `versions` shows.")
    var version: String?
    @OptionGroup var place: ModelPlace
    @Flag(help: "One JSON object.") var json = false

    private struct Row: Encodable {
        let name, daemon: String
        let removed: [String]
    }

    func run() async throws {
        let removed = try await place.change(model.name).remove(version)
        let notice = try await place.tell()
        if json {
            return Terminal.print(
                try Terminal.json(
                    Row(name: model.name, daemon: notice.word, removed: removed)))
        }
        let list = removed.map { String($0.prefix(12)) }.joined(separator: ", ")
        Terminal.print("removed \(model.name): \(list)")
        if let note = notice.note { Terminal.note(note) }
    }
}
