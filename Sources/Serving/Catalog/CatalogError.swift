// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC

/// Why a file is not served.
struct Refusal: Error, Equatable {
    enum Cause {
        /// Its bytes are not those of a packed model, or not those that were written.
        case damaged
        /// The system does not let it be read now: permissions, descriptors, memory. Worth another try in a second.
        case unreadable
        /// A sound file that this daemon cannot run.
        case unsupported
    }

    let cause: Cause
    let reason: String

    init(_ cause: Cause, _ reason: String) {
        self.cause = cause
        self.reason = reason
    }

    init(_ error: any Error) {
        let cause: Cause =
            switch error {
            case ModelError.store: .damaged
            case StoreError.io: .unreadable
            case StoreError.damaged, StoreError.truncated, StoreError.malformed,
                StoreError.missingKey, StoreError.wrongType, StoreError.notGGUF,
                StoreError.changed, StoreError.notRegular:
                .damaged
            default: .unsupported
            }
        self.init(cause, "\(error)")
    }
}

/// Why a request gets no model.
enum CatalogError: Error, Equatable {
    /// There are none. `places`: where they would be, each with what is wrong with it.
    case empty(places: [String])
    /// None is called that.
    case unknown(String, isDefault: Bool, names: [String], places: [String])
    /// None has this digest; the digests there are, by name.
    case unknownDigest(String, [String: String])
    /// None was named, and several could be meant.
    case ambiguous([String])
    /// None was named, and none can be used.
    case noneUsable([String: Refusal])
    case refused(String, Refusal)
    /// It is being read into memory, as the settings want it.
    case preparing(String, done: Int, of: Int)
    /// More requests wait for it to be opened than may.
    case crowded(String)
    case tooLate(String)
    case stopping
}

// MARK: The wire

extension RPCError {
    /// The one table of what a caller is told of the catalog's errors.
    init(_ error: CatalogError) {
        switch error {
        case .empty(let places):
            self.init(
                .notFound,
                "there are no models: put packed models (NAME.gguf, from `mmfreectl pack`) into \(places.joined(separator: ", "))",
                reason: "NO_MODELS")
        case .unknown(let name, let isDefault, let names, let places):
            let list = names.isEmpty ? "none" : names.joined(separator: ", ")
            self.init(
                .notFound,
                "no model '\(name)'\(isDefault ? ", which default_model names," : "") in \(places.joined(separator: ", ")); there are: \(list)",
                reason: "NO_SUCH_MODEL")
        case .unknownDigest(let digest, let known):
            let list = known.sorted { $0.key < $1.key }.map { "\($0.key) (\($0.value))" }
            self.init(
                .notFound,
                "no model has the digest '\(digest)'; there are: \(list.isEmpty ? "none" : list.joined(separator: ", "))",
                reason: "NO_SUCH_MODEL")
        case .ambiguous(let names):
            self = .invalid(
                "model",
                "say which with -m NAME or $MMFREED_MODEL (there are \(names.joined(separator: ", "))), or set default_model"
            )
        case .noneUsable(let refusals):
            let each = refusals.sorted { $0.key < $1.key }
            self.init(CatalogError.refused(each[0].key, each[0].value))
            message =
                "no model can be used: "
                + each.map { "'\($0.key)': \($0.value.reason)" }.joined(separator: "; ")
        case .refused(let name, let refusal):
            let (code, reason): (RPCCode, String) =
                switch refusal.cause {
                case .damaged: (.dataLoss, "MODEL_DAMAGED")
                case .unreadable: (.failedPrecondition, "MODEL_UNREADABLE")
                case .unsupported: (.failedPrecondition, "MODEL_REFUSED")
                }
            self.init(
                code, "model '\(name)' cannot be used: \(refusal.reason)", reason: reason)
        case .preparing(let name, let done, let all):
            self = RPCError(
                .unavailable,
                "model '\(name)' is being read into memory: \(done) of \(all) bytes",
                reason: "MODEL_LOADING"
            ).retrying(after: 1_000_000_000)
        case .crowded(let name):
            self = RPCError(
                .unavailable, "model '\(name)' is being opened, and too many requests wait for it",
                reason: "MODEL_LOADING"
            ).retrying(after: 1_000_000_000)
        case .tooLate(let name):
            self.init(
                .deadlineExceeded, "the deadline passed while model '\(name)' was being opened",
                reason: "DEADLINE")
        case .stopping:
            self = RPCError(.unavailable, "the daemon is stopping", reason: "DRAINING")
                .retrying(after: 1_000_000_000)
        }
    }
}
