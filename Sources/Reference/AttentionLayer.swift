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
    private let attentionNorm, feedForwardNorm: [Float]
    private let query, key, value, output, gate, up, down: TernaryProduct
    private let queryNorm, keyNorm, attentionSubNorm, feedForwardSubNorm: [Float]?

    init(_ weights: AttentionWeights, _ layer: AttentionLayout.Layer) throws(PackError) {
        shape = weights.shape
        attentionNorm = try weights.vector(layer.attentionNorm)
        feedForwardNorm = try weights.vector(layer.feedForwardNorm)
        query = try TernaryProduct(weights, layer.query)
        key = try TernaryProduct(weights, layer.key)
        value = try TernaryProduct(weights, layer.value)
        output = try TernaryProduct(weights, layer.output)
        gate = try TernaryProduct(weights, layer.gate)
        up = try TernaryProduct(weights, layer.up)
        down = try TernaryProduct(weights, layer.down)
        queryNorm = try weights.vector(layer.queryNorm)
        keyNorm = try weights.vector(layer.keyNorm)
        attentionSubNorm = try weights.vector(layer.attentionSubNorm)
        feedForwardSubNorm = try weights.vector(layer.feedForwardSubNorm)
    }

    /// One token.   input: [D]; cache: what the tokens before it left. Returns [D].
    func run(_ input: [Float], cache: inout LayerCache, _ rotation: Rotation) -> [Float] {
        var h = input
        var x = Arithmetic.rms(h, attentionNorm, shape.epsilon)
        var q = query(x)
        var k = key(x)
        let v = value(x)
        if let queryNorm, let keyNorm {
            q = rmsByHead(q, queryNorm)
            k = rmsByHead(k, keyNorm)
        }
        let position = cache.keys.count
        rotation.rotate(&q, position: position)
        rotation.rotate(&k, position: position)
        cache.keys.append(k)
        cache.values.append(v)
        var o = attention(q, cache)
        if let attentionSubNorm { o = Arithmetic.rms(o, attentionSubNorm, shape.epsilon) }
        add(output(o), to: &h)

        x = Arithmetic.rms(h, feedForwardNorm, shape.epsilon)
        let (gated, passed) = (gate(x), up(x))
        var y = (0..<gated.count).map { activation(gated[$0]) * passed[$0] }
        if let feedForwardSubNorm { y = Arithmetic.rms(y, feedForwardSubNorm, shape.epsilon) }
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
                return Float(sum) * scale
            }
            let largest = scores.max() ?? 0
            let powers = scores.map { exp(Double($0 - largest)) }
            let total = powers.reduce(0, +)
            for e in 0..<d {
                var sum = 0.0
                for j in 0..<powers.count {
                    sum += powers[j] / total * Double(cache.values[j][at + e])
                }
                out[from + e] = Float(sum)
            }
        }
        return out
    }

    /// relu² of BitNet, SiLU of the others.
    private func activation(_ x: Float) -> Float {
        switch shape.family {
        case .bitnet: max(x, 0) * max(x, 0)
        case .llama, .qwen3: Arithmetic.silu(x)
        }
    }

    private func rmsByHead(_ x: [Float], _ weight: [Float]) -> [Float] {
        stride(from: 0, to: x.count, by: weight.count).flatMap {
            Arithmetic.rms(Array(x[$0..<$0 + weight.count]), weight, shape.epsilon)
        }
    }

    private func add(_ values: [Float], to h: inout [Float]) {
        for k in 0..<h.count { h[k] += values[k] }
    }
}
