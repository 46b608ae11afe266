// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import MMFree
import ModelStore
import SystemPackage

/// Which directory of models is changed, and who is told.
struct ModelPlace: ParsableArguments {
    @Option(
        name: [.short, .long],
        help:
            "The directory of models. Default: the daemon's first; without a daemon /var/lib/mmfreed/models, or a user's own.",
        completion: .directory)
    var directory: String?

    @Option(
        help: "The socket of the daemon that is told. Default: as for other verbs.",
        completion: .file())
    var socket: String?

    static let system = "/var/lib/mmfreed/models"

    /// What has become of telling the daemon.
    enum Notice: Equatable {
        case told
        case nobody
        case refused(String)

        var word: String {
            switch self {
            case .told: "reloaded"
            case .nobody: "none"
            case .refused: "refused"
            }
        }

        /// For people; `nil` if all is as it should be.
        var note: String? {
            switch self {
            case .told: nil
            case .nobody: "no daemon is running: the next one serves what is there"
            case .refused(let why):
                "the daemon was not told (\(why)); it looks at a model's file with each request for it"
            }
        }
    }

    func path() async throws -> FilePath {
        if let directory { return FilePath(directory) }
        if let places = await within(.seconds(10), { try await client().modelList().places }) {
            let first = places.first {
                var status = stat()
                return stat($0, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
            }
            if let first { return FilePath(first) }
        }
        return FilePath(Self.own(user: geteuid(), environmentVariable) ?? Self.system)
    }

    /// Where the daemon of a user other than root looks first.
    static func own(user: UInt32, _ environment: (String) -> String?) -> String? {
        func absolute(_ name: String) -> String? {
            environment(name).flatMap { $0.hasPrefix("/") ? $0 : nil }
        }
        guard user != 0, absolute("XDG_RUNTIME_DIR") != nil, let home = absolute("HOME") else {
            return nil
        }
        return (absolute("XDG_DATA_HOME") ?? home + "/.local/share") + "/mmfreed/models"
    }

    private func client() -> Client { Connection.client(socket, patience: .zero) }

    /// Makes the daemon look at its models, if there is one.
    func tell() async throws -> Notice {
        do {
            _ = try await client().reload()
            return .told
        } catch {
            guard let failure = Failure(error) else { throw error }
            return failure.status == .unavailable ? .nobody : .refused(failure.message)
        }
    }

    /// The right to change `name`, once nobody else is changing models here.
    func change(_ name: String) async throws -> VersionChange {
        let directory = try await path()
        var hasSaid = false
        return try VersionChange(of: name, in: directory) {
            if Interruption.isWanted { throw VersionError.interrupted }
            if !hasSaid {
                Terminal.note("waiting for another process that changes models in \(directory)")
            }
            hasSaid = true
        }
    }
}

/// The name of a model that is there.
struct ModelName: ParsableArguments {
    @Argument(
        help: "The model's name.",
        completion: .custom { words, _, _ in await Completion.models(words) })
    var name: String

    func validate() throws { try Self.check(name) }

    static func check(_ name: String) throws {
        guard ModelDirectory.modelName(name + ".gguf") != nil else {
            throw ValidationError(
                "'\(name)' is no name of a model: 1 to 200 letters, digits, '.', '_' and '-', not beginning with '.'"
            )
        }
    }
}
