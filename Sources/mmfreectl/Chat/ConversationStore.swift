// SPDX-License-Identifier: Apache-2.0

import Glibc
import MMFree
import ModelStore
import SystemPackage

/// Where the conversations are of sessions that stay: in files of the user's alone, named by the sessions' states, the last 64.
struct ConversationStore {
    static let most = 64
    private static let suffix = ".json"
    private let directory: FilePath

    init(_ directory: FilePath) { self.directory = directory }

    /// $XDG_STATE_HOME/mmfreectl/chats, or below ~/.local/state.
    init?(_ environment: (String) -> String? = environmentVariable) {
        func absolute(_ name: String) -> String? {
            environment(name).flatMap { $0.hasPrefix("/") ? $0 : nil }
        }
        guard
            let state = absolute("XDG_STATE_HOME")
                ?? absolute("HOME").map({ $0 + "/.local/state" })
        else { return nil }
        directory = FilePath(state).appending("mmfreectl").appending("chats")
    }

    private func file(_ session: Session) -> FilePath {
        directory.appending(ConversationRecord.name(session) + Self.suffix)
    }

    /// What the session has read; `nil` if nobody has written that down here.
    func record(of session: Session) throws -> ConversationRecord? {
        let path = file(session).string
        guard access(path, F_OK) == 0 else { return nil }
        let record = try ConversationRecord(
            Input(path).bytes(limit: ConversationRecord.sizeLimit), path)
        return record.belongs(to: session) ? record : nil
    }

    func keep(_ record: ConversationRecord, of session: Session) throws {
        try make(directory)
        try OutputFile.replace(file(session), with: record.written(), replacing: true)
        prune()
    }

    private func make(_ directory: FilePath) throws(StoreError) {
        if mkdir(directory.string, 0o700) == 0 || errno == EEXIST { return }
        guard errno == ENOENT, directory.lastComponent != nil else {
            throw .io(Errno(rawValue: errno), doing: "make the directory", directory)
        }
        try make(directory.removingLastComponent())
        guard mkdir(directory.string, 0o700) == 0 || errno == EEXIST else {
            throw .io(Errno(rawValue: errno), doing: "make the directory", directory)
        }
    }

    /// Removes the oldest.
    private func prune() {
        let names = ((try? Directory.names(in: directory)) ?? []).filter {
            $0.hasSuffix(Self.suffix)
        }
        guard names.count > Self.most else { return }
        let ages = names.map { name in
            var status = stat()
            _ = stat(directory.appending(name).string, &status)
            return (status.st_mtim.tv_sec, status.st_mtim.tv_nsec, name)
        }
        for (_, _, name) in ages.sorted(by: <).dropLast(Self.most) {
            unlink(directory.appending(name).string)
        }
    }
}
