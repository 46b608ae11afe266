// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

/// A model as the steps that compute it. Valid while its `PackedFile` lives.
struct Program: @unchecked Sendable {
    /// What gives the logits.
    enum Head {
        case ternary(Step)
        case dense(FloatMatrix)
        /// An embedding model has none.
        case none
    }

    let embedding: FloatMatrix
    let head: Head
    /// model.norm
    let finalNorm: Norm
    let epsilon: Float
    let sizes: ScratchSizes
    /// Keys and values; nil in recurrent models.
    let attention: AttentionMemoryShape?
    /// The last layer's product into the residual stream.
    let leave: Step
    private let steps: UnsafeBufferPointer<Step>
    private let firsts: UnsafeBufferPointer<Int>
    private let lists: ProgramLists

    init(
        _ file: PackedFile, _ architecture: Architecture, _ keyValues: KeyValueType
    ) throws(StoreError) {
        var builder = ProgramBuilder(file)
        switch architecture {
        case .hgrnbit(let shape): self = try HGRNBitProgram.make(&builder, shape)
        case .attention(let shape): self = try AttentionProgram.make(&builder, shape, keyValues)
        }
    }

    /// Made of what a builder has.
    init(
        _ builder: ProgramBuilder, embedding: FloatMatrix, head: Head, finalNorm: Norm,
        epsilon: Float, sizes: ScratchSizes, attention: AttentionMemoryShape? = nil
    ) {
        self.embedding = embedding
        self.finalNorm = finalNorm
        self.epsilon = epsilon
        self.sizes = sizes
        self.attention = attention
        lists = builder.lists
        var all = builder.steps
        if case .ternary(let step) = head { all.append(step) }
        Self.lookAhead(&all, lists)
        if case .ternary = head { self.head = .ternary(all.removeLast()) } else { self.head = head }
        leave = all.removeLast()
        steps = lists.list(all)
        firsts = lists.list(builder.firsts)
    }

    var layers: Int { firsts.count }

    func steps(of layer: Int) -> Slice<UnsafeBufferPointer<Step>> {
        steps[firsts[layer]..<(layer + 1 < layers ? firsts[layer + 1] : steps.count)]
    }

    /// Notes at each product what is read after it, up to the next.
    private static func lookAhead(_ steps: inout [Step], _ lists: ProgramLists) {
        for index in steps.indices where steps[index].product != nil {
            var norms: [Norm] = []
            for next in steps[(index + 1)...] {
                switch next.work {
                case .rows(let operations), .logitRows(let operations):
                    for operation in operations { operation.visitNorms { norms.append($0) } }
                case .channels, .heads: break
                }
                if let product = next.product {
                    steps[index].next.matrix = product.operands[0].matrix
                    break
                }
            }
            steps[index].next.norms = lists.list(norms)
        }
    }
}

/// Memory of a program's lists; freed with it.
final class ProgramLists: @unchecked Sendable {
    private var all: [UnsafeMutableRawPointer] = []

    deinit { for memory in all { memory.deallocate() } }

    func list<T: BitwiseCopyable>(_ values: [T]) -> UnsafeBufferPointer<T> {
        let memory = UnsafeMutableBufferPointer<T>.allocate(capacity: max(1, values.count))
        _ = memory.initialize(from: values)
        all.append(UnsafeMutableRawPointer(memory.baseAddress!))
        return UnsafeBufferPointer(rebasing: memory[..<values.count])
    }
}
