// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

/// HGRNBit as steps; `Layer` of the reference is its readable form.
enum HGRNBitProgram {
    static func make(
        _ builder: inout ProgramBuilder, _ shape: ModelShape
    ) throws(StoreError) -> Program {
        let layout = TensorLayout(shape)
        let (d, e, i) = (shape.hidden, shape.inner, shape.intermediate)
        let bounds = try builder.norm(layout.lowerBoundTable)
        func quantisation(
            _ outer: Norm?, _ inner: UnsafePointer<UnsafePointer<Float>>?, sets: Int = 1,
            columns: Int
        ) -> Quantisation {
            Quantisation(
                rounding: .away, outer: outer, outerEpsilon: shape.epsilon, inner: inner,
                innerEpsilon: 1e-6, sets: sets, columns: columns)
        }
        var entry = RowOperation.embed
        for (n, layer) in layout.layers.enumerated() {
            builder.beginLayer()
            let mix = ProgramBuilder.operands([
                try builder.matrix(layer.input.weight), try builder.matrix(layer.forget.weight),
                try builder.matrix(layer.gate.weight),
            ])
            builder.rows(
                entry,
                .quantise(
                    quantisation(
                        try builder.norm(layer.attentionNorm),
                        try builder.inner(layer.input.norm, layer.forget.norm, layer.gate.norm),
                        sets: 3, columns: d)))
            let recurrence = Recurrence(
                layer: n, input: mix[0], forget: mix[1],
                bound: n > 0 ? bounds.map { $0.weights + n * e } : nil, channels: e)
            builder.product(mix, fusedWith: .recurrence(recurrence))
            builder.channels(recurrence)
            builder.rows(
                .gate(
                    Gate(
                        gate: mix[2], norm: try builder.norm(layer.gateNorm),
                        epsilon: shape.epsilon, inner: try builder.norm(layer.output.norm))))
            let output = ProgramBuilder.operands([try builder.matrix(layer.output.weight)])
            builder.product(output)

            builder.rows(
                .add(output[0]),
                .quantise(
                    quantisation(
                        try builder.norm(layer.feedForwardNorm),
                        try builder.inner(layer.gateUp.norm), columns: d)))
            let (gateUp, activation) = halves(try builder.matrix(layer.gateUp.weight), i)
            builder.product(gateUp, fusedWith: .activation(activation))
            builder.rows(
                .activate(
                    activation, quantisation(nil, try builder.inner(layer.down.norm), columns: i)))
            let down = ProgramBuilder.operands([try builder.matrix(layer.down.weight)])
            builder.product(down)
            entry = .add(down[0])
        }
        builder.rows(entry)
        let finalNorm = try builder.norm(layout.finalNorm)
        let head = builder.head(
            [
                .quantise(
                    quantisation(finalNorm, try builder.inner(layout.head.norm), columns: d))
            ], try builder.matrix(layout.head.weight))
        return Program(
            builder, embedding: try FloatMatrix(builder.file, layout.embedding),
            head: .ternary(head), finalNorm: finalNorm, epsilon: shape.epsilon,
            sizes: ScratchSizes(
                hidden: d, mixed: e, intermediate: i,
                products: max(
                    3 * Scratch.padded(e), Scratch.padded(d), Scratch.padded(2 * i)),
                ternaryLogits: shape.vocabulary))
    }

    /// The gate's rows and the value's of one matrix, [2I, D]: two operands where the value's begin with a tile, so that they can
    /// be taken side by side.
    private static func halves(
        _ both: TernaryMatrix, _ intermediate: Int
    ) -> ([Operand], Activation) {
        let isWhole = intermediate % Int(CK_TILE_ROWS) == 0
        func half(_ first: Int) -> TernaryMatrix {
            TernaryMatrix(
                packed: both.packed + first / Int(CK_TILE_ROWS) * (both.bytes / both.tiles),
                rows: intermediate, columns: both.columns, scale: both.scale)
        }
        let operands = ProgramBuilder.operands(
            isWhole ? [half(0), half(intermediate)] : [both], shared: true)
        return (
            operands,
            Activation(
                kind: .silu, gate: operands[0],
                up: isWhole
                    ? operands[1]
                    : Operand(
                        matrix: both, set: 0, offset: intermediate, stride: operands[0].stride),
                channels: intermediate, isFusable: isWhole)
        )
    }
}
