// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
internal import SystemPackage

/// The tensors of a checkpoint's weights by name, from one file or from shards with their index.
enum CheckpointWeights {
    static func open(
        _ weights: CheckpointFolder.Weights, in directory: FilePath
    ) throws(PackError) -> [ByteString: CheckpointTensor] {
        switch weights {
        case .single(let path): try open(path)
        case .sharded(let index): try openShards(index, in: directory)
        }
    }

    private static func open(_ path: FilePath) throws(PackError) -> [ByteString: CheckpointTensor] {
        let file = try SafetensorsFile(path: path)
        return Dictionary(
            uniqueKeysWithValues: file.entries.map {
                (ByteString($0.name), CheckpointTensor($0, in: file))
            })
    }

    private static func openShards(
        _ index: FilePath, in directory: FilePath
    ) throws(PackError) -> [ByteString: CheckpointTensor] {
        func broken(_ what: String) -> PackError { .malformed(file: index.string, what: what) }
        guard let map = try Checkpoint.json(index)["weight_map"]?.members else {
            throw broken("weight_map is missing")
        }
        var shards: [ByteString: SafetensorsFile] = [:]
        var tensors: [ByteString: CheckpointTensor] = [:]
        for member in map {
            guard let shard = member.value.string else {
                throw broken("\(member.name.quoted) names no file")
            }
            let file: SafetensorsFile
            if let open = shards[ByteString(shard)] {
                file = open
            } else {
                guard shards.count < 4096 else { throw broken("more than 4096 shards") }
                guard isInside(shard) else {
                    throw broken(
                        "weight_map leads out of the directory: \"\(shard.quoted)\"")
                }
                file = try SafetensorsFile(path: directory.appending(shard))
                shards[ByteString(shard)] = file
            }
            guard let entry = file[member.name] else {
                throw broken("\(member.name.quoted) is not in \(shard.quoted)")
            }
            tensors[ByteString(member.name)] = CheckpointTensor(entry, in: file)
        }
        // A shard may not smuggle in what the index does not place there.
        for file in shards.values {
            let strays = file.entries.filter { entry in
                tensors[ByteString(entry.name)]?.file !== file
            }
            guard strays.isEmpty else {
                throw broken(
                    "\(file.path.string) holds \(strays.count) tensors the index does not place "
                        + "there, \(strays[0].name.quoted) first")
            }
        }
        return tensors
    }

    /// A relative path without "..": symbolic links are the user's own (a download cache is made of
    /// them).
    private static func isInside(_ path: String) -> Bool {
        let path = FilePath(path)
        return !path.string.utf8.contains(0) && path.isRelative && !path.components.isEmpty
            && path.components.allSatisfy { $0.kind == .regular }
    }
}
