// SPDX-License-Identifier: Apache-2.0

package import ModelStore
package import Packer
package import SystemPackage

/// The golden cases of Tests/Fixtures/golden: checkpoints and what the original code made of them.
package struct Golden {
    package static let root = fixtures.appending("golden")
    package static let models = [
        "a_default_f32", "b_bf16", "c_fp16", "d_odd_96_160", "e_heads4", "h_sharded",
        "i_prequant_bf16", "l_inter_null",
    ]
    package static let ternarisations = ["trits_bf16", "trits_fp16", "trits_f32"]

    package let directory: FilePath
    package let expected: SafetensorsFile
    package let facts: JSON

    package init(_ name: String, root: FilePath = Golden.root) throws {
        directory = root.appending(name)
        expected = try SafetensorsFile(path: directory.appending("expected.safetensors"))
        facts = try parse(directory.appending("expected.json"))
    }

    package func checkpoint() throws -> Checkpoint { try Checkpoint(directory: directory) }

    /// An expected tensor's values.
    package func values(_ name: String) throws -> [Float] {
        guard let entry = expected[name] else { throw Missing(name: name) }
        return expected.withBytes(of: entry) { bytes in
            (0..<entry.count).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
        }
    }

    /// The expected trits of a checkpoint's tensor.
    package func trits(_ name: String) throws -> [Int8] {
        guard let entry = expected["trits." + name] else { throw Missing(name: name) }
        return expected.withBytes(of: entry) { $0.map { Int8(bitPattern: $0) } }
    }

    /// Names of all tensors with expected trits.
    package var ternaryNames: [String] {
        expected.entries.map(\.name).filter { $0.hasPrefix("trits.") }.map {
            String($0.dropFirst(6))
        }
    }

    package func ints(_ name: String) -> [Int] { facts[name]?.array?.compactMap(\.integer) ?? [] }
    package var tolerances: (absolute: Float, relative: Float) {
        (Float(facts["atol"]?.number ?? 0), Float(facts["rtol"]?.number ?? 0))
    }

    /// The largest amount by which `found` exceeds the case's tolerance around `wanted`; negative
    /// or zero when all is well.
    package func excess(_ found: [Float], _ wanted: [Float]) -> Float {
        guard found.count == wanted.count else { return .infinity }
        let (absolute, relative) = tolerances
        var worst = -Float.infinity
        for k in 0..<found.count {
            let excess = abs(found[k] - wanted[k]) - absolute - relative * abs(wanted[k])
            worst = excess.isNaN ? .infinity : max(worst, excess)
        }
        return worst
    }

    package struct Missing: Error { let name: String }
}

package func parse(_ path: FilePath) throws -> JSON { try JSON(parsing: try bytes(of: path)) }
