// SPDX-License-Identifier: Apache-2.0

import Packer
import SystemPackage

/// The golden cases of Tests/Fixtures/golden: checkpoints and what the original code made of them.
struct Golden {
    static let root = FilePath(#filePath).removingLastComponent().removingLastComponent()
        .appending("Fixtures").appending("golden")
    static let models = [
        "a_default_f32", "b_bf16", "c_fp16", "d_odd_96_160", "e_heads4", "h_sharded",
        "i_prequant_bf16", "l_inter_null",
    ]
    static let ternarisations = ["trits_bf16", "trits_fp16", "trits_f32"]

    let directory: FilePath
    let expected: SafetensorsFile
    let facts: JSON

    init(_ name: String, root: FilePath = Golden.root) throws {
        directory = root.appending(name)
        expected = try SafetensorsFile(path: directory.appending("expected.safetensors"))
        facts = try parse(directory.appending("expected.json"))
    }

    func checkpoint() throws -> Checkpoint { try Checkpoint(directory: directory) }

    /// An expected tensor's values.
    func values(_ name: String) throws -> [Float] {
        guard let entry = expected[name] else { throw Missing(name: name) }
        let bytes = expected.bytes(of: entry)
        return (0..<entry.count).map {
            bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self)
        }
    }

    /// The expected trits of a checkpoint's tensor.
    func trits(_ name: String) throws -> [Int8] {
        guard let entry = expected["trits." + name] else { throw Missing(name: name) }
        return expected.bytes(of: entry).map { Int8(bitPattern: $0) }
    }

    /// Names of all tensors with expected trits.
    var ternaryNames: [String] {
        expected.entries.map(\.name).filter { $0.hasPrefix("trits.") }.map {
            String($0.dropFirst(6))
        }
    }

    func ints(_ name: String) -> [Int] { facts[name]?.array?.compactMap(\.integer) ?? [] }
    var tolerances: (absolute: Float, relative: Float) {
        (Float(facts["atol"]?.number ?? 0), Float(facts["rtol"]?.number ?? 0))
    }

    /// The largest amount by which `found` exceeds the case's tolerance around `wanted`; negative
    /// or zero when all is well.
    func excess(_ found: [Float], _ wanted: [Float]) -> Float {
        guard found.count == wanted.count else { return .infinity }
        let (absolute, relative) = tolerances
        var worst = -Float.infinity
        for k in 0..<found.count {
            let excess = abs(found[k] - wanted[k]) - absolute - relative * abs(wanted[k])
            worst = excess.isNaN ? .infinity : max(worst, excess)
        }
        return worst
    }

    struct Missing: Error { let name: String }
}

func parse(_ path: FilePath) throws -> JSON { try JSON(parsing: try bytes(of: path)) }

/// A whole file.
func bytes(of path: FilePath) throws -> [UInt8] {
    let file = try FileDescriptor.open(path, .readOnly)
    return try file.closeAfter {
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = try chunk.withUnsafeMutableBytes { try file.read(into: $0) }
            if count == 0 { return all }
            all.append(contentsOf: chunk[0..<count])
        }
    }
}
