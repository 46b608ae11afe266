// SPDX-License-Identifier: Apache-2.0

import ModelStore
import SystemPackage

/// What an evaluation has computed so far: a file that is replaced as a whole, and gone on from. It names the model, the data and the
/// settings, as numbers of others would be wrong here.
struct EvalRecord {
    let model: String
    /// How the model's keys and values were stored; nil of a model that has none.
    let keyValues: String?
    let addsBOS: Bool
    /// Of each task the digest of its data and the log-probabilities of its questions' answers, in order.
    private(set) var tasks: [(name: String, digest: String, results: [[Double]])] = []

    static let sizeLimit = 256 << 20
    private static let version = 2

    init(model: String, keyValues: String? = nil, addsBOS: Bool) {
        self.model = model
        self.keyValues = keyValues
        self.addsBOS = addsBOS
    }

    /// Results that are known of this task on this data.
    func results(_ name: String, digest: String) throws(Failure) -> [[Double]] {
        guard let task = tasks.first(where: { $0.name == name }) else { return [] }
        guard task.digest == digest else {
            throw Failure(
                "its results of \(name) are of other data (SHA-256 \(task.digest.prefix(12))…, not \(digest.prefix(12))…); give another file",
                .data)
        }
        return task.results
    }

    mutating func add(_ result: [Double], _ name: String, digest: String) {
        if let place = tasks.firstIndex(where: { $0.name == name }) {
            tasks[place].results.append(result)
        } else {
            tasks.append((name, digest, [result]))
        }
    }

    // MARK: The file

    init(
        parsing bytes: [UInt8], model: String, keyValues: String? = nil, addsBOS: Bool
    ) throws(Failure) {
        self.init(model: model, keyValues: keyValues, addsBOS: addsBOS)
        let json: JSON
        do { json = try JSON(parsing: bytes) } catch {
            throw Failure("byte \(error.offset): \(error.what)", .data)
        }
        guard json["format"]?.string == "mmfreectl eval", json["version"]?.integer == Self.version,
            let digest = json["model"]?.string, let bos = json["add_bos"]?.bool,
            let members = json["tasks"]?.members
        else {
            throw Failure("it holds no results of mmfreectl eval that this version knows", .data)
        }
        guard digest == model else {
            throw Failure(
                "its results are of another model (digest \(digest.prefix(12))…, not \(model.prefix(12))…); give another file",
                .data)
        }
        // Files of models with attention that name no type are older than the choice.
        let stored = json["key_values"]?.string ?? keyValues.map { _ in "f32" }
        guard stored == keyValues else {
            throw Failure(
                "its results are with keys and values in \(stored ?? "f32"), not \(keyValues ?? "f32"); give another file",
                .data)
        }
        guard bos == addsBOS else {
            throw Failure("its results are \(bos ? "with" : "without") --bos", .data)
        }
        for member in members {
            guard let data = member.value["data"]?.string,
                let rows = member.value["results"]?.array
            else { throw Failure("'\(member.name)' has no data and results", .data) }
            var results: [[Double]] = []
            for row in rows {
                let values = row.array?.compactMap(\.number) ?? []
                guard values.count == row.array?.count, values.count > 1 else {
                    throw Failure(
                        "result \(results.count) of '\(member.name)' is no list of numbers", .data)
                }
                results.append(values)
            }
            tasks.append((member.name, data, results))
        }
    }

    var bytes: [UInt8] {
        JSON.object([
            .init("format", .string("mmfreectl eval")), .init("version", .integer(Self.version)),
            .init("model", .string(model)),
            .init("key_values", keyValues.map { .string($0) } ?? .null),
            .init("add_bos", .bool(addsBOS)),
            .init(
                "tasks",
                .object(
                    tasks.map { task in
                        .init(
                            task.name,
                            .object([
                                .init("data", .string(task.digest)),
                                .init(
                                    "results",
                                    .array(task.results.map { .array($0.map { .number($0) }) })),
                            ]))
                    })),
        ]).writtenCompactly() + [0x0A]
    }
}
