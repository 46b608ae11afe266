// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
internal import SystemPackage

/// What sentence-transformers' files say of an embedding model's vector: modules.json and the Pooling module's config.json.
struct PoolingImport {
    private(set) var warnings: [String] = []

    /// Reads them into `shape`. Without modules.json, the last row at length 1.
    init(_ directory: FilePath, _ shape: inout AttentionShape) throws(PackError) {
        let path = directory.appending("modules.json")
        guard shape.family == .qwen3 else { return }
        guard InputFile.exists(path) else {
            warnings.append(
                "there is no modules.json: a text's vector is the hidden state of its last token, brought to length 1"
            )
            return
        }
        let json = try Checkpoint.json(path)
        guard let modules = json.array else {
            throw .malformed(file: path.string, what: "it is \(json.kind), not a list")
        }
        shape.normalizes = false
        var pools = 0
        for module in modules {
            let type = module["type"]?.string ?? "?"
            switch type.split(separator: ".").last ?? "" {
            case "Transformer": break
            case "Normalize": shape.normalizes = true
            case "Pooling":
                pools += 1
                let folder = module["path"]?.string ?? "1_Pooling"
                let inside = FilePath(folder)
                guard inside.isRelative, inside.components.allSatisfy({ $0.kind == .regular })
                else {
                    throw .malformed(
                        file: path.string, what: "a module's path leads out: \(folder.quoted)")
                }
                shape.pooling = try Self.pooling(
                    directory.appending(folder).appending("config.json"))
            default:
                throw .unsupported(
                    file: path.string, what: "the module \(type.quoted) is not computed")
            }
        }
        guard pools == 1 else {
            throw .unsupported(
                file: path.string, what: "it lists \(pools) Pooling modules; one is computed")
        }
        if InputFile.exists(directory.appending("config_sentence_transformers.json")) {
            warnings.append(
                "config_sentence_transformers.json: prompts are not kept: put the text that queries begin with into the text"
            )
        }
    }

    private static func pooling(_ path: FilePath) throws(PackError) -> Pooling {
        let json = try Checkpoint.json(path)
        let modes = (json.members ?? []).filter {
            $0.name.hasPrefix("pooling_mode_") && !$0.value.isOff
        }.map(\.name)
        let known: [String: Pooling] = [
            "pooling_mode_lasttoken": .last, "pooling_mode_mean_tokens": .mean,
            "pooling_mode_cls_token": .first,
        ]
        guard modes.count == 1, let pooling = known[modes[0]] else {
            throw .unsupported(
                file: path.string,
                what:
                    "its pooling modes are \(modes.map(\.quoted)); one of lasttoken, mean_tokens and cls_token is computed"
            )
        }
        return pooling
    }
}
