// SPDX-License-Identifier: Apache-2.0

package import ModelStore
package import SystemPackage

/// Writes a packed file back out as a checkpoint in Hugging Face layout, which packs again to the same trits and scales;
/// `HGRNBitUnpack` and `AttentionUnpack` say in what form.
package struct UnpackJob {
    private enum Model {
        case hgrnbit(HGRNBitUnpack)
        case attention(AttentionUnpack)
    }

    private let file: PackedFile
    private let destination: FilePath
    private let model: Model
    private let tokenizer: Vocabulary?
    private let templates: PackedTemplates

    /// Checks that `file` holds all tensors of its model, in their sizes.
    package init(_ file: PackedFile, to destination: FilePath) throws(PackError) {
        self.file = file
        self.destination = destination
        do throws(StoreError) {
            let size: Int
            if try file.metadata.string(forKey: FormatKeys.architecture) == Format.architecture {
                let unpack = try HGRNBitUnpack(file)
                size = unpack.vocabulary
                model = .hgrnbit(unpack)
            } else {
                let unpack = try AttentionUnpack(file)
                size = unpack.vocabulary
                model = .attention(unpack)
            }
            tokenizer = try Vocabulary(file.metadata, size: size)
            templates = try PackedTemplates(file.metadata)
        } catch { throw .store(error) }
        // What is written can be packed again.
        switch model {
        case .hgrnbit: _ = try CheckpointConfig(config, file: "the packed file")
        case .attention: _ = try AttentionConfig(config, file: "the packed file")
        }
    }

    private var config: JSON {
        switch model {
        case .hgrnbit(let unpack): unpack.config(tokenizer)
        case .attention(let unpack): unpack.config(tokenizer)
        }
    }

    private var tensors: [SafetensorsWriter.Tensor] {
        switch model {
        case .hgrnbit(let unpack): unpack.tensors
        case .attention(let unpack): unpack.tensors
        }
    }

    /// Does it. The directory appears whole or not at all; one with something in it is refused.
    package func run(
        isCancelled: () -> Bool = { false }, progress: (PackJob.Progress) -> Void = { _ in }
    ) throws(PackError) {
        var directory = try OutputDirectory(destination)
        func save(_ json: JSON, _ name: String) throws(PackError) {
            try NewFile.write(json.written(), to: directory.temporary.appending(name))
        }
        try save(config, "config.json")
        if let tokenizer {
            try save(tokenizer.tokenizerJSON, "tokenizer.json")
            try save(tokenizer.configJSON(templates), "tokenizer_config.json")
            try save(tokenizer.specialTokensJSON(templates), "special_tokens_map.json")
            if let json = tokenizer.generationJSON(templates) {
                try save(json, "generation_config.json")
            }
        }
        let tensors = tensors
        var writer = try SafetensorsWriter(
            directory.temporary.appending("model.safetensors"), tensors)
        let total = tensors.reduce(0) { $0 + $1.byteCount }
        var done = 0
        for (index, tensor) in tensors.enumerated() {
            func step() throws(PackError) {
                if isCancelled() { throw .cancelled }
                progress(PackJob.Progress(done: done, total: total, tensor: tensor.name))
            }
            switch model {
            case .hgrnbit(let unpack): try unpack.write(index, to: &writer, step: step)
            case .attention(let unpack): try unpack.write(index, to: &writer, step: step)
            }
            done += tensor.byteCount
        }
        try writer.finish()
        if isCancelled() { throw .cancelled }
        try storing { () throws(StoreError) in try file.map.checkUnchanged() }
        try directory.publish()
    }
}
