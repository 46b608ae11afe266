// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
internal import Packer

/// One block: the gated recurrence, then the gated feed-forward part, each added to its input.
///
/// Source: matmulfreellm, mmfreelm/models/hgrn_bit/modeling_hgrn_bit.py `HGRNBitBlock`.
struct Layer {
    private let attentionNorm, gateNorm, feedForwardNorm: [Float]
    private let i, f, g, o, gateUp, down: BitLinear
    /// Lower bound of the forget gate; nil in layer 0 and in models without.
    private let bound: [Float]?

    init(
        _ checkpoint: Checkpoint, _ layer: TensorLayout.Layer, bound: [Float]?
    ) throws(PackError) {
        attentionNorm = try checkpoint.tensor(layer.attentionNorm).floats()
        gateNorm = try checkpoint.tensor(layer.gateNorm).floats()
        feedForwardNorm = try checkpoint.tensor(layer.feedForwardNorm).floats()
        i = try BitLinear(checkpoint, layer.input)
        f = try BitLinear(checkpoint, layer.forget)
        g = try BitLinear(checkpoint, layer.gate)
        o = try BitLinear(checkpoint, layer.output)
        gateUp = try BitLinear(checkpoint, layer.gateUp)
        down = try BitLinear(checkpoint, layer.down)
        self.bound = bound
    }

    /// One token.   input: [D]; state: [E], advanced in place. Returns [D].
    func run(_ input: [Float], state: inout [Float], epsilon: Float) -> [Float] {
        var h = input
        var x = Arithmetic.rms(h, attentionNorm, epsilon)
        let (input, forget, gate) = (i(x), f(x), g(x))
        for k in 0..<state.count {
            var f = Arithmetic.sigmoid(forget[k])
            if let bound { f = bound[k] + (1 - bound[k]) * f }
            state[k] = f * state[k] + Arithmetic.silu(input[k]) * (1 - f)
        }
        // The projection g is what is normalised; the state is the gate, not the other way round.
        var output = Arithmetic.rms(gate, gateNorm, epsilon)
        for k in 0..<state.count { output[k] *= Arithmetic.silu(state[k]) }
        add(o(output), to: &h)

        x = Arithmetic.rms(h, feedForwardNorm, epsilon)
        let both = gateUp(x)
        let width = both.count / 2
        add(down((0..<width).map { Arithmetic.silu(both[$0]) * both[width + $0] }), to: &h)
        return h
    }

    private func add(_ values: [Float], to h: inout [Float]) {
        for k in 0..<h.count { h[k] += values[k] }
    }
}
