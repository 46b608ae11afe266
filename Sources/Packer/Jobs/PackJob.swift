// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
package import SystemPackage

/// Converts one checkpoint into one packed file.
///
/// Goes through the checkpoint once, tensor by tensor; memory is bounded by the largest tensor. The
/// same checkpoint gives the same bytes, on any machine and any number of cores. The file appears
/// whole under its name or not at all.
package struct PackJob {
    package enum Embedding: String, Sendable, CaseIterable {
        /// As the checkpoint has it: lossless.
        case keep
        /// About 6.5 bits a value.
        case q6
    }

    package struct Progress: Sendable, Equatable {
        /// Bytes of the checkpoint.
        package var done: Int
        package var total: Int
        /// The tensor at work, by the checkpoint's name.
        package var tensor: String
    }

    private let source: PackSource
    private let destination: FilePath
    private let embedding: Embedding
    private let ternariser: Ternariser
    private let name: String?
    private let replacing: Bool

    /// `name`: what the model calls itself; config.json's name if nil.
    /// `replacing`: whether a file at `destination` may be replaced.
    package init(
        _ source: PackSource, to destination: FilePath, embedding: Embedding = .keep,
        name: String? = nil, replacing: Bool = false, parallel: Parallel = Parallel()
    ) {
        self.source = source
        self.destination = destination
        self.embedding = embedding
        self.name = name
        self.replacing = replacing
        ternariser = Ternariser(parallel: parallel)
    }

    package init(
        _ checkpoint: Checkpoint, to destination: FilePath, embedding: Embedding = .keep,
        name: String? = nil, replacing: Bool = false, parallel: Parallel = Parallel()
    ) {
        self.init(
            .hgrnbit(checkpoint), to: destination, embedding: embedding, name: name,
            replacing: replacing, parallel: parallel)
    }

    private var noTokenizer: [String] {
        let ends = source.tokens.ends.map(String.init).joined(separator: ", ")
        return ends.isEmpty
            ? []
            : [
                "there is no tokenizer: eos_token_id (\(ends) in config.json) is not kept, and answers end at no token"
            ]
    }

    /// Does it. `progress` is called before each tensor and within large ones, `isCancelled` as
    /// often; both on the calling thread.
    package func run(
        isCancelled: () -> Bool = { false }, progress: (Progress) -> Void = { _ in }
    ) throws(PackError) -> PackReport {
        let start = ContinuousClock.now
        try storing { () throws(StoreError) in
            try OutputPlace.check(destination, isNone: source.files)
        }
        let tokenizer = try TokenizerImport(source.directory, source.tokens)
        let contents = try PackedContents(
            source, name: name, tokenizer: tokenizer, embedding: embedding)
        var run = try PackRun(
            source, contents, to: destination, replacing: replacing, ternariser)
        for role in source.roles {
            try run.pack(role, isCancelled: isCancelled, progress: progress)
        }
        if isCancelled() { throw .cancelled }
        var report = try run.finish()
        report.tokenizer = tokenizer?.file
        report.warnings =
            source.warnings + report.warnings + (tokenizer?.warnings ?? noTokenizer)
        report.seconds = (ContinuousClock.now - start) / .seconds(1)
        return report
    }
}
