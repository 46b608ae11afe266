// SPDX-License-Identifier: Apache-2.0

import RPC

/// What is known of a model. Sizes are 0 while its file has not been opened.
public struct ModelInfo: Sendable, Equatable {
    /// Where a model stands. Later versions may know more.
    public struct State: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// Nobody has asked for it.
        public static let unopened = State(rawValue: "unopened")
        public static let opening = State(rawValue: "opening")
        public static let mapped = State(rawValue: "mapped")
        /// Its file is being read into memory.
        public static let loading = State(rawValue: "loading")
        /// The administrator has had its memory let go of; the next request maps it again.
        public static let unloaded = State(rawValue: "unloaded")
        /// It cannot be used: ``ModelInfo/error`` says why.
        public static let refused = State(rawValue: "refused")

        public var description: String { rawValue }
    }

    /// What keeps a model's bytes from changing while they are mapped. Later versions may know more.
    public struct Protection: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// A file that its owner and root can write: a change is noticed, not prevented.
        public static let plain = Protection(rawValue: "plain")
        /// Memory with file seals: nobody can change it.
        public static let sealed = Protection(rawValue: "sealed")
        /// A file with fs-verity: nobody can change it, and what its disk changes cannot be read.
        public static let verity = Protection(rawValue: "verity")

        public var description: String { rawValue }

        init?(_ wire: RPC.Protection) {
            if wire == .unspecified { return nil }
            self.init(rawValue: "\(wire)")
        }
    }

    /// The comparison of a mapped model's bytes with its digests. Later versions may know more.
    public struct DigestCheck: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// The daemon's settings want none.
        public static let skipped = DigestCheck(rawValue: "skipped")
        /// Waiting or under way, while the model is served.
        public static let running = DigestCheck(rawValue: "running")
        public static let passed = DigestCheck(rawValue: "passed")

        public var description: String { rawValue }

        init?(_ wire: RPC.DigestCheck) {
            if wire == .unspecified { return nil }
            self.init(rawValue: "\(wire)")
        }
    }

    /// How the keys and values of a model with attention are stored. Later versions may know more.
    public struct KeyValueType: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
        public let rawValue: String
        public init(rawValue: String) { self.rawValue = rawValue }

        /// float32, as they are computed.
        public static let f32 = KeyValueType(rawValue: "f32")
        /// Each rounded to the nearest bfloat16: half the memory, and other answers.
        public static let bf16 = KeyValueType(rawValue: "bf16")

        public var description: String { rawValue }
    }

    public var name: String
    /// SHA-256 over everything of its file that decides its results, in hexadecimal.
    public var digest: String
    public var fileBytes: UInt64
    /// Tokens.
    public var vocabulary: Int
    /// Width of the residual stream, and of an embedding.
    public var hidden: Int
    public var layers: Int
    /// Width of the gated feed-forward.
    public var intermediate: Int
    public var ternaryWeights: UInt64
    /// How the embedding table is stored: "bf16", "q6".
    public var embeddingEncoding: String
    /// Without one it takes tokens only.
    public var hasTokenizer: Bool
    public var state: State
    /// Why it is refused; empty otherwise.
    public var error: String
    /// Whether requests that name no model get this one.
    public var isDefault: Bool
    public var path: String
    /// `nil` unless it is mapped.
    public var protection: Protection?
    /// `nil` unless it is mapped.
    public var digestCheck: DigestCheck?
    /// Bytes of its file in the page cache, whoever brought them there; `nil` where the kernel does not tell the daemon.
    public var cachedBytes: UInt64?
    /// Bytes of it in the daemon's page tables (RSS), and the same with each page divided by the number of processes that have it
    /// mapped (PSS). `nil` unless it is mapped.
    public var residentBytes, shareBytes: UInt64?
    /// What ``Client/load(_:pin:timeout:)`` asked for: "", "loaded", "pinned".
    public var memory = ""
    /// Read into memory so far, while ``Client/load(_:pin:timeout:)`` is at it.
    public var loadedBytes: UInt64 = 0
    /// The file that is mapped: stat's st_dev and st_ino; 0 unless it is mapped.
    public var device: UInt64 = 0
    public var inode: UInt64 = 0
    /// "hgrnbit", "bitnet", "llama-bitnet", "qwen3-bitnet"; empty while its file has not been opened.
    public var architecture = ""
    /// Tokens of prompt and answer together, at most; `nil` for no limit.
    public var context: Int?
    /// It predicts no tokens: embed only.
    public var isEmbeddingModel = false
    /// How its keys and values are stored, which decides results; `nil` for a model that has none.
    public var keyValueType: KeyValueType?
}

/// The models a daemon knows.
public struct ModelList: Sendable, Equatable {
    /// A file that looks like a model and is not served, or a directory that cannot be read.
    public struct Skipped: Sendable, Equatable {
        public var path, reason: String
    }

    public var models: [ModelInfo]
    public var skipped: [Skipped]
    /// Where models are looked for, in the order that counts: directories, or files.
    public var places: [String]
}

/// What ``Client/reload(timeout:)`` has found, by name.
public struct ModelChanges: Sendable, Equatable {
    public var added, replaced, removed: [String]
}

// MARK: The wire

extension ModelInfo {
    init(_ wire: RPC.ModelInfo) {
        self.init(
            name: wire.name, digest: wire.digest, fileBytes: wire.fileBytes,
            vocabulary: Int(wire.vocabulary), hidden: Int(wire.hidden), layers: Int(wire.layers),
            intermediate: Int(wire.intermediate), ternaryWeights: wire.ternaryWeights,
            embeddingEncoding: wire.embeddingEncoding, hasTokenizer: wire.hasTokenizer,
            state: State(rawValue: wire.state), error: wire.error, isDefault: wire.isDefault,
            path: wire.path, protection: Protection(wire.protection),
            digestCheck: DigestCheck(wire.digestCheck), cachedBytes: wire.cachedBytes,
            residentBytes: wire.residentBytes, shareBytes: wire.shareBytes, memory: wire.memory,
            loadedBytes: wire.loadedBytes, device: wire.device, inode: wire.inode,
            architecture: wire.architecture,
            context: wire.context == 0 ? nil : Int(wire.context),
            isEmbeddingModel: wire.isEmbeddingModel,
            keyValueType: wire.keyValueType.isEmpty
                ? nil : KeyValueType(rawValue: wire.keyValueType))
    }
}
