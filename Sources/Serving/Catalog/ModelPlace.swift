// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import ModelStore
import RPC
import Synchronization

/// A file of the model directory, and what came of mapping it.
final class ModelPlace: Sendable {
    private struct State {
        var entry: ModelDirectory.Entry
        var outcome: Result<Model, RPCError>?
        /// CLOCK_MONOTONIC, nanoseconds: when it was last tried.
        var tried: UInt64 = 0
        var preparation = Preparation.none
    }

    private enum Preparation {
        case none, underWay, done
    }

    /// What a place is to a file found under its name.
    enum Standing {
        case same, changed
        /// The same file, and it could not be used; it is worth another try.
        case refused
    }

    private let state: Mutex<State>

    init(_ entry: ModelDirectory.Entry) { state = Mutex(State(entry: entry)) }

    // Whoever looks does not wait for a file that is being opened: the roster looks while it keeps everybody out.

    /// The model if it is mapped.
    var model: Model? { state.withLockIfAvailable { try? $0.outcome?.get() } ?? nil }

    var isLoading: Bool { state.withLockIfAvailable { $0.preparation == .underWay } ?? false }

    /// A file that is being opened counts as the same.
    func standing(of entry: ModelDirectory.Entry) -> Standing {
        state.withLockIfAvailable { state in
            guard state.entry == entry else { return .changed }
            if case .failure = state.outcome { return .refused }
            return .same
        } ?? .same
    }

    /// Maps the file the first time, and again when one that was refused has changed or could not be read.
    ///
    /// Others who want this model wait; mapping reads the header only.
    ///
    /// - Parameter now: CLOCK_MONOTONIC, nanoseconds.
    func open(
        now: UInt64 = cl_monotonic_nanoseconds(),
        _ map: (ModelDirectory.Entry) -> Result<Model, RPCError>
    ) throws(RPCError) -> Model {
        let outcome = state.withLock { state in
            if case .success(let model) = state.outcome {
                return Result<Model, RPCError>.success(model)
            }
            let identity = try? FileIdentity(path: state.entry.path)
            if case .failure(let error) = state.outcome {
                // Permissions and a lack of memory are no property of the file.
                let mayDiffer =
                    error.reason == Self.unreadable && now > state.tried &+ Self.patience
                guard mayDiffer || identity != state.entry.identity else { return .failure(error) }
            }
            if let identity, identity != state.entry.identity {
                state.entry = ModelDirectory.Entry(
                    name: state.entry.name, path: state.entry.path, identity: identity)
            }
            let outcome = map(state.entry)
            state.outcome = outcome
            state.tried = now
            return outcome
        }
        return try outcome.get()
    }

    /// The reason of a refusal that another try may not give.
    static let unreadable = "MODEL_UNREADABLE"
    /// Nanoseconds between two tries.
    private static let patience: UInt64 = 1_000_000_000

    /// Runs `body`, which may take long, once. Meanwhile others are told to come again.
    func prepare(_ body: () -> Void) throws(RPCError) {
        let isOurs: Bool? = state.withLock { state in
            switch state.preparation {
            case .done: return false
            case .underWay: return nil
            case .none:
                state.preparation = .underWay
                return true
            }
        }
        guard let isOurs else {
            throw RPCError(
                .unavailable, "the model is being read into memory", reason: "MODEL_LOADING"
            ).retrying(after: 1_000_000_000)
        }
        guard isOurs else { return }
        body()
        state.withLock { $0.preparation = .done }
    }
}
