// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC
import SystemPackage

/// The state that a model's sessions begin with, where one lies beside the model: NAME.state beside NAME.gguf.
enum InitialState {
    static func path(beside model: FilePath) -> FilePath {
        model.removingLastComponent().appending((model.lastComponent?.stem ?? "") + ".state")
    }

    /// - Returns: an empty state if there is no such file.
    static func read(beside loaded: LoadedModel) throws(RPCError) -> SessionState {
        let path = path(beside: loaded.model.file.path)
        // Whatever the type of its keys and values: another one is refused by name.
        let memory = loaded.model.shape.memory(.f32)
        let most = SavedState.byteCount(
            digest: loaded.model.digest.utf8.count, unread: 1,
            numberBytes: memory.bytes(after: memory.context ?? 1))
        do {
            let file = try MappedFile(path: path, untrusted: .refuse)
            guard file.count <= most else {
                throw SavedStateError.truncated(expected: most, found: file.count)
            }
            let bytes = file.withBytes { Array($0) }
            try file.checkUnchanged()
            return try SavedState(decoding: bytes).state(for: loaded.model)
        } catch StoreError.io(.noSuchFileOrDirectory, _, _) {
            return .empty
        } catch {
            throw RPCError(
                .failedPrecondition,
                "the initial state \(path) of model '\(loaded.name)' is refused: \(error); ask for a blank session, or replace the file",
                reason: "INITIAL_STATE_REFUSED")
        }
    }
}
