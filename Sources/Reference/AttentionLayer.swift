// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import ModelStore
internal import Packer

/// The keys and values that a layer has seen, [tokens][G·d] each; keys are rotated.
package struct LayerCache: Equatable {
    package var keys: [[Float]] = []
    package var values: [[Float]] = []
}

/// One block: attention, then the gated feed-forward part, each added to its input.
///
/// Source: transformers 5.24, models/bitnet/modeling_bitnet.py, models/llama/modeling_llama.py, models/qwen3/modeling_qwen3.py.
struct AttentionLayer {
    private let shape: AttentionShape
    private let rounded: Precision
    private let attentionNorm, feedForwardNorm: [Float]
    private let query, key, value, output, gate, up, down: TernaryProduct
    private let queryNorm, keyNorm, attentionSubNorm, feedForwardSubNorm: [Float]?

    init(
        _ weights: AttentionWeights, _ layer: AttentionLayout.Layer, _ precision: Precision
    ) throws(PackError) {
        shape = weights.shape
        rounded = precision
        attentionNorm = try weights.vector(layer.attentionNorm, precision)
        feedForwardNorm = try weights.vector(layer.feedForwardNorm, precision)
        query = try TernaryProduct(weights, layer.query, precision)
        key = try TernaryProduct(weights, layer.key, precision)
        value = try TernaryProduct(weights, layer.value, precision)
        output = try TernaryProduct(weights, layer.output, precision)
        gate = try TernaryProduct(weights, layer.gate, precision)
        up = try TernaryProduct(weights, layer.up, precision)
        down = try TernaryProduct(weights, layer.down, precision)
        queryNorm = try weights.vector(layer.queryNorm, precision)
        keyNorm = try weights.vector(layer.keyNorm, precision)
        attentionSubNorm = try weights.vector(layer.attentionSubNorm, precision)
        feedForwardSubNorm = try weights.vector(layer.feedForwardSubNorm, precision)
    }

    /// One token.   input: [D]; cache: what the tokens before it left. Returns [D].
    func run(_ input: [Float], cache: inout LayerCache, _ rotation: Rotation) -> [Float] {
        var h = input
        var x = rms(h, attentionNorm)
        var q = query(x)
        var k = key(x)
        let v = value(x)
        if let queryNorm, let keyNorm {
            q = rmsByHead(q, queryNorm)
            k = rmsByHead(k, keyNorm)
        }
        let position = cache.keys.count
        rotation.rotate(&q, position: position, rounded)
        rotation.rotate(&k, position: position, rounded)
        cache.keys.append(k)
        cache.values.append(v)
        var o = attention(q, cache)
        if let attentionSubNorm { o = rms(o, attentionSubNorm) }
        add(output(o), to: &h)

        x = rms(h, feedForwardNorm)
        let (gated, passed) = (gate(x), up(x))
        var y = (0..<gated.count).map { rounded(activation(gated[$0]) * passed[$0]) }
        if let feedForwardSubNorm { y = rms(y, feedForwardSubNorm) }
        add(down(y), to: &h)
        return h
    }

    /// q: [H·d]. Head a reads the keys and values of head a / (H/G). Returns [H·d].
    private func attention(_ q: [Float], _ cache: LayerCache) -> [Float] {
        let d = shape.headSize
        let scale = Float(1 / Double(d).squareRoot())
        var out = [Float](repeating: 0, count: q.count)
        for head in 0..<shape.heads {
            let (from, at) = (head * d, head / (shape.heads / shape.keyHeads) * d)
            let scores = cache.keys.map { key in
                var sum = 0.0
                for e in 0..<d { sum += Double(q[from + e]) * Double(key[at + e]) }
                return rounded(rounded(Float(sum)) * scale)
            }
            let largest = scores.max() ?? 0
            let powers = scores.map { exp(Double($0 - largest)) }
            let total = powers.reduce(0, +)
            // In float32 the shares are not rounded before they are summed.
            let shares = powers.map {
                rounded == .float32 ? $0 / total : Double(rounded(Float($0 / total)))
            }
            for e in 0..<d {
                var sum = 0.0
                for j in 0..<shares.count {
                    sum += shares[j] * Double(cache.values[j][at + e])
                }
                out[from + e] = rounded(Float(sum))
            }
        }
        return out
    }

    /// relu² of BitNet, SiLU of the others.
    private func activation(_ x: Float) -> Float {
        switch shape.family {
        case .bitnet: rounded(max(x, 0) * max(x, 0))
        case .llama, .qwen3: rounded(Arithmetic.silu(x))
        }
    }

    private func rmsByHead(_ x: [Float], _ weight: [Float]) -> [Float] {
        stride(from: 0, to: x.count, by: weight.count).flatMap {
            rms(Array(x[$0..<$0 + weight.count]), weight)
        }
    }

    private func rms(_ x: [Float], _ weight: [Float]) -> [Float] {
        Arithmetic.rms(x, weight, shape.epsilon, rounded)
    }

    private func add(_ values: [Float], to h: inout [Float]) {
        for k in 0..<h.count { h[k] = rounded(h[k] + values[k]) }
    }
}
