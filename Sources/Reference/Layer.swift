// SPDX-License-Identifier: Apache-2.0

internal import Packer

/// One block: the gated recurrence, then the gated feed-forward part, each added to its input.
///
/// Source: matmulfreellm, mmfreelm/models/hgrn_bit/modeling_hgrn_bit.py `HGRNBitBlock`.
struct Layer {
    private let attentionNorm, gateNorm, feedForwardNorm: [Float]
    private let i, f, g, o, gateUp, down: BitLinear
    /// Lower bound of the forget gate; nil in layer 0 and in models without.
    private let bound: [Float]?

    init(_ checkpoint: Checkpoint, _ index: Int, bound: [Float]?) throws(PackError) {
        let prefix = "model.layers.\(index)."
        attentionNorm = try checkpoint.tensor(named: prefix + "attn_norm.weight").floats()
        gateNorm = try checkpoint.tensor(named: prefix + "attn.g_norm.weight").floats()
        feedForwardNorm = try checkpoint.tensor(named: prefix + "mlp_norm.weight").floats()
        i = try BitLinear(checkpoint, prefix + "attn.i_proj")
        f = try BitLinear(checkpoint, prefix + "attn.f_proj")
        g = try BitLinear(checkpoint, prefix + "attn.g_proj")
        o = try BitLinear(checkpoint, prefix + "attn.o_proj")
        gateUp = try BitLinear(checkpoint, prefix + "mlp.gate_proj")
        down = try BitLinear(checkpoint, prefix + "mlp.down_proj")
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
