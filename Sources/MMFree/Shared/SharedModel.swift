// SPDX-License-Identifier: Apache-2.0

import Engine
import Grammar
import ModelStore
import RPC
import Synchronization
import SystemPackage

/// A model that runs in this process, on the same memory as the daemon and everybody else who maps it: only the state of each
/// conversation (96 to 320 KiB in the published models) and some working memory are this process' own.
///
/// Answers and vectors are the daemon's, bit for bit: the same model, prompt, options and seed give the same tokens. Computing is
/// done by threads of the model's own, never on Swift's cooperative pool.
///
/// A file that is cut short while it is mapped raises SIGBUS, which ends the process; see ``containFaults()``. A file that is
/// written into is noticed: calls end with ``MMFreeError/Code-swift.struct/dataLoss``, and no token that was computed of other
/// bytes is given out.
public final class SharedModel: Sendable {
    public struct Options: Sendable {
        /// Threads that compute; `nil` for one on each processor that this process may use.
        public var threads: Int?
        /// Calls that are computed at the same time, and states that are kept for them; further ones wait.
        public var conversations = 4
        /// How keys and values are stored; this is not the daemon's setting. Only those that this version knows.
        public var keyValueType = ModelInfo.KeyValueType.f32

        public init(threads: Int? = nil) { self.threads = threads }
    }

    public let info: ModelInfo
    let model: Model
    let engine: LocalEngine
    nonisolated(unsafe) let kernels: Kernels.Table
    /// The last format that was asked for: most programs have one.
    let grammars = Mutex<(format: AnswerFormat, grammar: TokenGrammar)?>(nil)

    /// Binds a mapped file. Takes some milliseconds, and longer for a cold file.
    init(
        _ file: PackedFile, name: String, _ options: Options,
        protection: ModelInfo.Protection? = nil
    ) throws(MMFreeError) {
        guard let keyValues = KeyValueType(rawValue: options.keyValueType.rawValue) else {
            throw .invalid(
                "keyValueType",
                "'\(options.keyValueType)'; it is \(KeyValueType.allCases.map(\.rawValue).joined(separator: " or "))"
            )
        }
        do throws(ModelError) {
            model = try Model(file, keyValues: keyValues)
            kernels = try Kernels.fromEnvironment()
            engine = try LocalEngine(model, kernels, options)
        } catch { throw MMFreeError(error) }
        info = ModelInfo(
            name: name, digest: model.digest, fileBytes: UInt64(file.byteCount),
            vocabulary: model.shape.vocabulary, hidden: model.shape.hidden,
            layers: model.shape.layers, intermediate: model.shape.intermediate,
            ternaryWeights: UInt64(model.shape.ternaryWeights),
            embeddingEncoding: (try? file.metadata.string(
                forKey: file.metadata.own.embeddingEncoding))
                ?? "",
            hasTokenizer: model.tokenizer != nil, state: .mapped, error: "", isDefault: false,
            path: file.path.string,
            protection: protection ?? ModelInfo.Protection(rawValue: "\(file.map.protection)"),
            digestCheck: nil, architecture: model.shape.name,
            context: model.memory.context, isEmbeddingModel: !model.shape.hasHead,
            keyValueType: model.memory.keyValueType.map { .init(rawValue: $0.rawValue) })
    }

    /// Maps a packed model that this user may read.
    public static func open(
        path: String, options: Options = Options()
    ) async throws -> SharedModel {
        try await onThread("mmf-open") {
            let path = FilePath(path)
            let file = try mapped { () throws(StoreError) in try PackedFile(path: path) }
            return try SharedModel(file, name: path.stem ?? path.string, options)
        }
    }

    /// Maps a model of a daemon's: the very pages the daemon uses, through a read-only descriptor that it hands out. The file need
    /// not be readable by this user. One connection to the daemon's share socket is made, and closed; afterwards the model needs no
    /// daemon.
    ///
    /// - Parameters:
    ///   - model: its name; empty for the daemon's default.
    ///   - socket: the daemon's socket, as in ``Client/init(socket:options:)``; the share socket is `share.sock` beside it. `nil` tries
    ///     $MMFREED_SHARE_SOCKET first.
    public static func shared(
        model: String = "", socket: String? = nil, options: Options = Options()
    ) async throws -> SharedModel {
        try await onThread("mmf-share") {
            let (response, descriptor) = try ShareSocket.ask(
                ShareRequest(model: model), ShareSocket.paths(socket))
            let file = try mapped { () throws(StoreError) in
                let file = try PackedFile(
                    MappedFile(descriptor: descriptor, path: FilePath(response.name)))
                guard file.modelDigest == response.digest,
                    UInt64(file.byteCount) == response.fileBytes
                else {
                    throw .malformed(
                        "the descriptor is of another model than the daemon says: digest \(file.modelDigest), not \(response.digest)"
                    )
                }
                return file
            }
            return try SharedModel(
                file, name: response.name, options,
                protection: ModelInfo.Protection(response.protection))
        }
    }

    private static func mapped(
        _ open: () throws(StoreError) -> PackedFile
    ) throws(MMFreeError) -> PackedFile {
        do { return try open() } catch { throw MMFreeError(error) }
    }

    /// From now on a mapped file that cannot be read any more (cut short by somebody, or its disk fails) ends the calls on it
    /// with ``MMFreeError/Code-swift.struct/dataLoss``, where otherwise SIGBUS ends the process.
    ///
    /// This takes over the whole process' SIGBUS, once and for good; bus errors elsewhere go to whatever handled them before. A
    /// library does not do that unasked: call it at the start of a program that is to survive an administrator's `cp` over a
    /// model's file. A model in a sealed memfd or under fs-verity cannot be cut short and needs it not.
    public static func containFaults() { MappedFile.containFaults() }
}

/// Runs what blocks or computes on a thread of its own, away from Swift's cooperative pool.
func onThread<R: Sendable>(
    _ name: String, _ body: @escaping @Sendable () throws -> R
) async throws -> R {
    try await withCheckedThrowingContinuation { answer in
        startThread(name: name) { answer.resume(with: Result { try body() }) }
    }
}

extension MMFreeError {
    init(_ error: StoreError) {
        let code: Code =
            switch error {
            case .io(.noSuchFileOrDirectory, _, _): .notFound
            case .io(.permissionDenied, _, _): .permissionDenied
            case .io, .exists, .noSpace, .destination: .unavailable
            case .notRegular, .notGGUF, .unsupportedVersion, .otherProgram,
                .untrusted:
                .failedPrecondition
            case .truncated, .malformed, .missingKey, .wrongType, .missingTensor, .wrongTensor,
                .damaged, .changed:
                .dataLoss
            }
        self.init(code, "\(error)", reason: "MODEL_FILE")
    }

    init(_ error: ModelError) {
        if case .store(let error) = error {
            self.init(error)
        } else {
            self.init(.failedPrecondition, "\(error)", reason: "MODEL_UNUSABLE")
        }
    }
}
