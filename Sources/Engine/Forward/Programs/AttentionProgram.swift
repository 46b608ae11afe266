// SPDX-License-Identifier: Apache-2.0

import ModelStore

/// BitNet, Llama with ternary products and Qwen3 for embeddings as steps; `AttentionLayer` of the reference is their readable form.
enum AttentionProgram {
    static func make(
        _ builder: inout ProgramBuilder, _ shape: AttentionShape, _ keyValues: KeyValueType
    ) throws(StoreError) -> Program {
        let layout = try AttentionFile(builder.file).layout
        let (d, i, q) = (shape.hidden, shape.intermediate, shape.queryWidth)
        func quantisation(
            _ outer: Norm?, _ inner: UnsafePointer<UnsafePointer<Float>>?, products: Int = 1,
            columns: Int
        ) -> Quantisation {
            Quantisation(
                rounding: .even, outer: outer, outerEpsilon: shape.epsilon, inner: inner,
                innerEpsilon: shape.innerEpsilon ?? 0, sets: inner == nil ? 1 : products,
                columns: columns)
        }
        // Without norms inside, products of the same rows share one quantised set.
        let isShared = shape.innerEpsilon == nil
        var entry = RowOperation.embed
        for (n, layer) in layout.layers.enumerated() {
            builder.beginLayer()
            let queryKeyValue = ProgramBuilder.operands(
                [
                    try builder.matrix(layer.query.weight), try builder.matrix(layer.key.weight),
                    try builder.matrix(layer.value.weight),
                ], shared: isShared)
            builder.rows(
                entry,
                .quantise(
                    quantisation(
                        try builder.norm(layer.attentionNorm),
                        try builder.inner(layer.query.norm, layer.key.norm, layer.value.norm),
                        products: 3, columns: d)))
            builder.product(queryKeyValue)
            let attention = Attention(
                layer: n, heads: shape.heads, keyHeads: shape.keyHeads,
                headSize: shape.headSize, query: queryKeyValue[0], key: queryKeyValue[1],
                value: queryKeyValue[2], queryNorm: try builder.norm(layer.queryNorm),
                keyNorm: try builder.norm(layer.keyNorm), epsilon: shape.epsilon,
                scale: Float(1 / Double(shape.headSize).squareRoot()), stored: keyValues)
            builder.rows(.remember(attention))
            builder.heads(attention)
            builder.rows(
                .quantiseMixed(
                    quantisation(
                        try builder.norm(layer.attentionSubNorm),
                        try builder.inner(layer.output.norm), columns: q)))
            let output = ProgramBuilder.operands([try builder.matrix(layer.output.weight)])
            builder.product(output)

            builder.rows(
                .add(output[0]),
                .quantise(
                    quantisation(
                        try builder.norm(layer.feedForwardNorm),
                        try builder.inner(layer.gate.norm, layer.up.norm), products: 2, columns: d)
                ))
            let gateUp = ProgramBuilder.operands(
                [try builder.matrix(layer.gate.weight), try builder.matrix(layer.up.weight)],
                shared: isShared)
            let activation = Activation(
                kind: shape.family == .bitnet ? .relu2 : .silu, gate: gateUp[0], up: gateUp[1],
                channels: i, isFusable: true)
            builder.product(gateUp, fusedWith: .activation(activation))
            builder.rows(
                .activate(
                    activation,
                    quantisation(
                        try builder.norm(layer.feedForwardSubNorm),
                        try builder.inner(layer.down.norm), columns: i)))
            let down = ProgramBuilder.operands([try builder.matrix(layer.down.weight)])
            builder.product(down)
            entry = .add(down[0])
        }
        builder.rows(entry)
        let embedding = try FloatMatrix(builder.file, layout.embedding)
        let head: Program.Head =
            if !shape.family.hasHead {
                .none
            } else if let role = layout.head {
                .dense(try FloatMatrix(dense: builder.file, role))
            } else {
                .dense(embedding)
            }
        return Program(
            builder, embedding: embedding, head: head,
            finalNorm: try builder.norm(layout.finalNorm), epsilon: shape.epsilon,
            sizes: ScratchSizes(
                hidden: d, mixed: q, intermediate: i,
                products: max(
                    Scratch.padded(q) + 2 * Scratch.padded(shape.keyWidth), Scratch.padded(d),
                    2 * Scratch.padded(i)),
                ternaryLogits: 0,
                attention: .init(
                    headSize: shape.headSize, keyWidth: shape.keyWidth,
                    scores: shape.heads / shape.keyHeads * ((shape.context + 15) / 16 * 16))),
            attention: AttentionMemoryShape(
                layers: shape.layers, keyHeads: shape.keyHeads, headSize: shape.headSize,
                context: shape.context, theta: shape.theta, type: keyValues))
    }
}
