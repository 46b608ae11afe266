// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import MMFree
import ModelStore
import SystemPackage

struct Default: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show the model of requests that name none, or set it (for root).",
        discussion: """
            Setting it writes default_model into \(settings) and reloads the daemon. A daemon with other settings files \
            does not read that: set default_model there, or use -m or $MMFREED_MODEL.
            """)

    static let settings = "/etc/mmfreed/mmfreed.conf.d/90-default-model.conf"

    @Argument(
        help: "The model to set.",
        completion: .custom { words, _, _ in await Completion.models(words) })
    var name: String?
    @Flag(help: "Take back what this verb has set.") var clear = false
    @OptionGroup var connection: Connection

    func validate() throws {
        if clear, name != nil { throw ValidationError("give a name or --clear, not both") }
    }

    func run() async throws {
        let client = connection.client()
        let models = try await client.models()
        let present = models.first(where: \.isDefault)?.name
        if !clear, name == nil {
            guard let present else {
                // The daemon knows why.
                if !models.isEmpty { _ = try await client.tokenize("") }
                throw Failure(
                    "there is no default model: name one with -m or $MMFREED_MODEL, or set it with `mmfreectl default NAME`",
                    .configuration)
            }
            return Terminal.print(present)
        }
        if let name, !models.contains(where: { $0.name == name }) {
            let names = models.map(\.name).joined(separator: ", ")
            throw Failure(
                "there is no model '\(name)'\(names.isEmpty ? "" : "; there are \(names)")",
                .noInput)
        }
        try write()
        _ = try await client.reload()
        let now = try await client.models().first(where: \.isDefault)?.name
        if let name, now != name {
            throw Failure(
                "\(Self.settings) says so now, but the daemon goes on with \(now ?? "none"): a flag, a variable or a later file sets "
                    + "default_model, or it reads other files (`mmfreed --check-config` shows which)",
                .configuration)
        }
    }

    private func write() throws {
        let directory = FilePath(Self.settings).removingLastComponent().string
        guard access(directory, W_OK) == 0 else {
            let problem = Errno(rawValue: errno)
            throw problem == .noSuchFileOrDirectory
                ? Failure(
                    "there is no \(directory): set default_model in the settings file the daemon reads",
                    .cannotCreate)
                : Failure("cannot write \(directory): \(problem); this is for root", .noPermission)
        }
        guard let name else {
            _ = unlink(Self.settings)
            return
        }
        let text = "# Written by `mmfreectl default`.\ndefault_model = \"\(name)\"\n"
        try OutputFile.replace(FilePath(Self.settings), with: Array(text.utf8))
    }
}
