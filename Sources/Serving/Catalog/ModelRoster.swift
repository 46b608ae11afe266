// SPDX-License-Identifier: Apache-2.0

import CLinux
package import Engine
package import Logging
package import ModelStore
package import RPC
import Synchronization
import SystemPackage

/// The models there are, by name. A model is mapped when it is first asked for and stays mapped; requests keep the one they
/// began with, also when its file has been replaced since.
package final class ModelRoster: Sendable {
    private struct State {
        var places: [String: ModelPlace] = [:]
        var scanned: UInt64 = 0
        var defaultModel: String?
        var onStale: (@Sendable ([Model]) -> Void)?
    }

    private let directory: ModelDirectory
    private let configuration: ServingConfiguration
    private let logger: Logger
    private let state: Mutex<State>

    package init(
        _ directory: ModelDirectory, _ configuration: ServingConfiguration, _ logger: Logger
    ) {
        self.directory = directory
        self.configuration = configuration
        self.logger = logger
        state = Mutex(State(defaultModel: configuration.defaultModel))
        _ = rescan()
    }

    /// Looks at the directories again: new models appear, removed ones go, replaced ones are mapped anew when next asked for.
    @discardableResult
    package func rescan() -> ReloadResponse {
        let found = directory.scan()
        let (changes, stale, handler) = state.withLock { state in
            var changes = ReloadResponse()
            let before = state.places
            state.places = [:]
            for entry in found {
                switch before[entry.name]?.standing(of: entry) {
                case .same:
                    state.places[entry.name] = before[entry.name]
                    continue
                case .refused: break
                case .changed: changes.replaced.append(entry.name)
                case nil: changes.added.append(entry.name)
                }
                state.places[entry.name] = ModelPlace(entry)
            }
            changes.removed = before.keys.filter { state.places[$0] == nil }.sorted()
            state.scanned = cl_monotonic_nanoseconds()
            let stale = before.filter { state.places[$0.key] !== $0.value }
                .compactMap(\.value.model)
            return (changes, stale, state.onStale)
        }
        if !stale.isEmpty { handler?(stale) }
        return changes
    }

    /// Calls `handler` with models that no new request will get, because their files are gone or replaced.
    func onStale(_ handler: @escaping @Sendable ([Model]) -> Void) {
        state.withLock { $0.onStale = handler }
    }

    /// The model of requests that name none.
    package var defaultModel: String? {
        get { state.withLock { $0.defaultModel } }
        set { state.withLock { $0.defaultModel = newValue } }
    }

    package var names: [String] { state.withLock { $0.places.keys.sorted() } }

    /// The model called `name`, or, for no name, the default or the only one.
    package func model(_ name: String) throws(RPCError) -> (name: String, model: Model) {
        let name = try resolve(name)
        let place = try place(name)
        let model = try place.open { map(name, $0) }
        if configuration.prefault || configuration.lockMemory {
            try place.prepare { prepare(name, model) { _, _ in true } }
        }
        return (name, model)
    }

    /// Brings all models into memory, one after another, if the settings want them there. Those that cannot be used are
    /// left out, having been logged.
    ///
    /// - Parameter progress: told a model's name, its bytes done so far and all its bytes; returns false to stop.
    package func prepareAll(_ progress: (String, Int, Int) -> Bool) {
        guard configuration.prefault || configuration.lockMemory else { return }
        var goesOn = true
        for name in names where goesOn {
            guard let place = try? place(name), let model = try? place.open({ map(name, $0) })
            else { continue }
            try? place.prepare {
                prepare(name, model) { done, all in
                    goesOn = progress(name, done, all)
                    return goesOn
                }
            }
        }
    }

    private func resolve(_ asked: String) throws(RPCError) -> String {
        let name = asked.isEmpty ? defaultModel ?? "" : asked
        if !name.isEmpty, names.contains(name) { return name }
        // It may have been copied in since.
        let old = state.withLock { cl_monotonic_nanoseconds() &- $0.scanned > 1_000_000_000 }
        if old { rescan() }
        let names = names
        let places = directory.paths.map(\.string).joined(separator: ", ")
        if name.isEmpty {
            if names.count == 1 { return names[0] }
            guard names.isEmpty else {
                throw RPCError.invalid(
                    "model", "say which: there are \(names.joined(separator: ", "))")
            }
            throw RPCError(
                .notFound,
                "there are no models: put packed models (NAME.gguf, from `mmfreectl pack`) into \(places)",
                reason: "NO_MODELS")
        }
        guard names.contains(name) else {
            throw RPCError(
                .notFound,
                "no model '\(name)' in \(places); there are: \(names.isEmpty ? "none" : names.joined(separator: ", "))",
                reason: "NO_SUCH_MODEL")
        }
        return name
    }

    private func place(_ name: String) throws(RPCError) -> ModelPlace {
        guard let place = state.withLock({ $0.places[name] }) else {
            throw RPCError(
                .notFound, "model '\(name)' has just been removed", reason: "NO_SUCH_MODEL")
        }
        return place
    }

    /// Brings a model's file into memory and keeps it there, as the settings want it.
    ///
    /// - Parameter progress: told the bytes done so far and all bytes; returns false to stop.
    private func prepare(_ name: String, _ model: Model, _ progress: (Int, Int) -> Bool) {
        let began = cl_monotonic_nanoseconds()
        var isStopped = false
        do {
            try model.file.map.prefault { done in
                isStopped = !progress(done, model.file.byteCount)
                return !isStopped
            }
            guard !isStopped else { return }
            if configuration.lockMemory { try model.file.map.lock() }
            logger.info(
                "model \(name) is in memory",
                metadata: [
                    "model": "\(name)",
                    "huge_page_bytes": "\(model.file.map.hugePageBytes)",
                    "ms": "\((cl_monotonic_nanoseconds() &- began) / 1_000_000)",
                ])
        } catch {
            logger.warning("\(error), ignoring", metadata: ["model": "\(name)"])
        }
    }

    private func map(_ name: String, _ entry: ModelDirectory.Entry) -> Result<Model, RPCError> {
        let began = cl_monotonic_nanoseconds()
        do {
            let file = try PackedFile(path: entry.path)
            let model = try Model(file)
            if entry.identity.isWritableByOthers {
                logger.warning(
                    "\(entry.path) may be written by others than its owner: cutting it short would end the daemon, ignoring",
                    metadata: ["model": "\(name)"])
            }
            logger.info(
                "mapped model \(name)",
                metadata: [
                    "message-id": "\(Event.modelMapped)", "model": "\(name)",
                    "digest": "\(model.digest)", "bytes": "\(file.byteCount)",
                    "ms": "\((cl_monotonic_nanoseconds() &- began) / 1_000_000)",
                ])
            return .success(model)
        } catch {
            let refusal = Self.refusal(name, error)
            logger.error(
                "refused model \(name): \(error)",
                metadata: ["message-id": "\(Event.modelRefused)", "model": "\(name)"])
            return .failure(refusal)
        }
    }

    private static func refusal(_ name: String, _ error: any Error) -> RPCError {
        let message = "model '\(name)' cannot be used: \(error)"
        switch error as? StoreError {
        case .damaged, .truncated, .malformed, .missingKey, .wrongType, .notGGUF:
            return RPCError(.dataLoss, message, reason: "MODEL_DAMAGED")
        case .io:
            return RPCError(.failedPrecondition, message, reason: ModelPlace.unreadable)
        default:
            return RPCError(.failedPrecondition, message, reason: "MODEL_REFUSED")
        }
    }

    /// Every model, with what is known of it. Models are opened to be described.
    package func describe() -> [ModelInfo] {
        let only = names.count == 1
        return names.map { name in
            var info = ModelInfo()
            info.name = name
            info.isDefault = defaultModel.map { $0 == name } ?? only
            do throws(RPCError) {
                let place = try place(name)
                let model = try place.open { map(name, $0) }
                info.digest = model.digest
                info.fileBytes = UInt64(model.file.byteCount)
                info.vocabulary = UInt32(model.shape.vocabulary)
                info.hidden = UInt32(model.shape.hidden)
                info.layers = UInt32(model.shape.layers)
                info.intermediate = UInt32(model.shape.intermediate)
                info.ternaryWeights = UInt64(model.shape.ternaryWeights)
                info.embeddingEncoding =
                    (try? model.file.metadata.string(forKey: FormatKeys.embeddingEncoding)) ?? ""
                info.hasTokenizer = model.tokenizer != nil
                info.state = place.isLoading ? "loading" : "mapped"
            } catch {
                info.state = "refused"
                info.error = RPCError.cut(error.message)
            }
            return info
        }
    }
}
