// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
package import Packer
package import Reference
package import SystemPackage

/// The golden cases of Tests/Fixtures/bitnet: small checkpoints of the families with attention, and what the authors' code made of
/// them in float32. `MMFREED_BITNET_GOLDEN` names a directory with more of them.
package struct AttentionGolden {
    package static let root =
        getenv("MMFREED_BITNET_GOLDEN").map { FilePath(String(cString: $0)) }
        ?? fixtures.appending("bitnet")

    /// The directories with an expected.json and a config.json.
    package static var models: [String] {
        TestSupport.names(in: root).filter { name in
            let inside = TestSupport.names(in: root.appending(name))
            return inside.contains("config.json") && inside.contains("expected.json")
        }
    }

    package let golden: Golden
    package let checkpoint: AttentionCheckpoint

    package init(_ name: String) throws {
        golden = try Golden(name, root: Self.root)
        checkpoint = try AttentionCheckpoint(directory: golden.directory)
    }

    private var tokens: [Int] { golden.ints("input_ids") }

    /// The largest difference as a part of the largest magnitude; infinite if the sizes differ.
    package static func distance(_ found: [Float], _ wanted: [Float]) -> Float {
        guard found.count == wanted.count else { return .infinity }
        let largest = wanted.reduce(0) { max($0, abs($1)) }
        var worst: Float = 0
        for k in 0..<found.count {
            let difference = abs(found[k] - wanted[k])
            worst = difference.isNaN ? .infinity : max(worst, difference)
        }
        return worst / largest
    }

    /// What of trits and scales is not as expected.
    package func matrixFaults() throws -> [String] {
        var faults: [String] = []
        for product in checkpoint.layout.products {
            let name = String(product.weight.name.dropLast(".weight".count))
            let matrix = try checkpoint.matrix(product)
            if try matrix.allTrits() != golden.trits(name) { faults.append("trits of \(name)") }
            let scale = try golden.values("scale." + name)[0]
            let bound: Float = checkpoint.config.shape.scaleSource == .multiply ? 0 : 1e-6
            if abs(matrix.scale / scale - 1) > bound {
                faults.append("scale of \(name): \(matrix.scale), not \(scale)")
            }
        }
        if checkpoint.layout.products.count != golden.ternaryNames.count { faults.append("count") }
        return faults
    }

    /// What of a forward pass in two pieces, and of the greedy tokens behind it, is not as expected.
    package func forwardFaults(_ weights: AttentionWeights) throws -> [String] {
        var faults: [String] = []
        func check(_ found: [Float], _ name: String, _ bound: Float = 2e-5) throws {
            let distance = Self.distance(found, try golden.values(name))
            if !(distance <= bound) { faults.append("\(name): \(distance)") }
        }
        let model = try AttentionModel(weights)
        var state = model.freshState
        let half = tokens.count / 2
        var output = try model.run(Array(tokens[..<half]), state: &state)
        let rest = try model.run(Array(tokens[half...]), state: &state)
        output.hidden += rest.hidden
        output.logits += rest.logits
        for layer in output.hiddenLayers.indices {
            output.hiddenLayers[layer] += rest.hiddenLayers[layer]
        }
        try check(output.hidden.flatMap { $0 }, "hidden")
        try check(output.hiddenLayers.flatMap { $0 }.flatMap { $0 }, "hidden_layers")
        let shape = model.shape
        for (index, layer) in state.layers.enumerated() where golden.expected["k.0"] != nil {
            for (name, rows) in [("k", layer.keys), ("v", layer.values)] {
                // [heads, tokens, d] in the file.
                let values = (0..<shape.keyHeads).flatMap { head in
                    rows.flatMap {
                        $0[head * shape.headSize..<(head + 1) * shape.headSize]
                    }
                }
                try check(values, "\(name).\(index)")
            }
        }
        guard shape.family.hasHead else {
            let vectors = [
                ("embedding", try model.embed(tokens)),
                ("embedding_mean", try model.embed(tokens, pooling: .mean)),
            ]
            for (name, vector) in vectors {
                let wanted = try golden.values(name)
                let worst = zip(vector, wanted).reduce(Float(0)) { max($0, abs($1.0 - $1.1)) }
                if vector.count != wanted.count || worst > 2e-6 {
                    faults.append("\(name): \(worst)")
                }
            }
            return faults
        }
        let excess = golden.excess(
            output.logits.flatMap { $0 }, try golden.values("logits"))
        if excess > 0 { faults.append("logits: \(excess) beyond the tolerance") }
        let greedy = golden.ints("greedy")
        if try model.greedy(tokens, count: greedy.count) != greedy { faults.append("greedy") }
        return faults
    }
}
