// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC
import Synchronization
import SystemPackage

/// One version of a model in memory: the bound model, the file it is mapped from, and its open descriptor.
///
/// A reference to `model` is a pin: requests keep the version they began with, and its file stays mapped and open until the last
/// lets go.
final class LoadedModel: Sendable {
    let name: String
    let model: Model
    private let facts: ModelInfo
    private let retired = Atomic<Bool>(false)
    private let broughtInValue = Atomic<Int>(0)
    private let lastUse = Atomic<UInt64>(0)
    /// Whether its results can be relied on.
    let proof: ModelProof
    private let isSkipped: Bool

    /// - Parameter check: whether its bytes have been compared with their digests, or are never to be.
    init(_ name: String, _ model: Model, check: DigestCheck = .running) {
        self.name = name
        self.model = model
        proof = ModelProof(check == .passed ? .sound : check == .skipped ? .unknown : .open)
        isSkipped = check == .skipped
        var info = ModelInfo()
        info.name = name
        info.path = model.file.path.string
        info.digest = model.digest
        info.fileBytes = UInt64(model.file.byteCount)
        info.vocabulary = UInt32(model.shape.vocabulary)
        info.hidden = UInt32(model.shape.hidden)
        info.layers = UInt32(model.shape.layers)
        info.intermediate = UInt32(model.shape.intermediate)
        info.ternaryWeights = UInt64(model.shape.ternaryWeights)
        info.embeddingEncoding =
            (try? model.file.metadata.string(
                forKey: model.file.metadata.own.embeddingEncoding)) ?? ""
        info.hasTokenizer = model.tokenizer != nil
        info.device = model.file.map.identity.device
        info.inode = model.file.map.identity.inode
        info.architecture = model.shape.name
        info.context = UInt32(clamping: model.memory.context ?? 0)
        info.isEmbeddingModel = !model.shape.hasHead
        info.keyValueType = model.memory.keyValueType?.rawValue ?? ""
        info.protection = Protection(model.file.map.protection)
        facts = info
    }

    /// What is said of it, apart from its state.
    var info: ModelInfo {
        var info = facts
        info.digestCheck = digestCheck
        return info
    }

    var digestCheck: DigestCheck {
        if proof.verdict == .sound { return .passed }
        return isSkipped ? .skipped : .running
    }
    /// All of its bytes are what their digests tell.
    func passed() { proof.settle(.sound) }

    /// The file as it was just before it was mapped, or copied into sealed memory.
    var identity: FileIdentity { model.file.map.source }
    /// The descriptor it was mapped from: close-on-exec, open as long as this version lives.
    var descriptor: FileDescriptor { model.file.map.descriptor }

    /// No new request gets this version: its file is gone, replaced or damaged.
    var isRetired: Bool { retired.load(ordering: .relaxed) }
    func retire() {
        retired.store(true, ordering: .relaxed)
        // What it computed before anybody had compared its bytes may be wrong.
        proof.settle(model.damage == nil ? .unknown : .damaged)
    }

    /// Bytes that `LoadModel` has read into memory; 0 when it is not at it.
    var broughtIn: Int {
        get { broughtInValue.load(ordering: .relaxed) }
        set { broughtInValue.store(newValue, ordering: .relaxed) }
    }

    /// When it was last given to a request (CLOCK_MONOTONIC, nanoseconds); 0 if not since its pages were given back.
    var used: UInt64 {
        get { lastUse.load(ordering: .relaxed) }
        set { lastUse.store(newValue, ordering: .relaxed) }
    }
}

extension Protection {
    init(_ protection: FileProtection) {
        self =
            switch protection {
            case .plain: .plain
            case .sealed: .sealed
            case .verity: .verity
            }
    }
}
