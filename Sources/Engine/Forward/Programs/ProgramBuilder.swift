// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

/// Resolves the roles of a packed file to pointers into its mapping, and takes down the steps of a program in their order.
struct ProgramBuilder {
    let file: PackedFile
    let lists = ProgramLists()
    private(set) var steps: [Step] = []
    /// The first step of each layer.
    private(set) var firsts: [Int] = []

    init(_ file: PackedFile) { self.file = file }

    // MARK: Weights

    func norm(_ role: TensorRole) throws(StoreError) -> Norm {
        let pointer = file.pointer(to: try file.tensor(role)).assumingMemoryBound(to: Float.self)
        return Norm(weights: pointer, count: role.count)
    }

    func norm(_ role: TensorRole?) throws(StoreError) -> Norm? {
        guard let role else { return nil }
        return try norm(role)
    }

    func matrix(_ role: TensorRole) throws(StoreError) -> TernaryMatrix {
        let matrix = try file.matrix(role)
        return TernaryMatrix(
            packed: file.pointer(to: matrix.info).assumingMemoryBound(to: UInt8.self),
            rows: matrix.rows, columns: matrix.columns, scale: matrix.scale)
    }

    /// The norms inside products, as the kernels take them; nil where there are none.
    func inner(_ roles: TensorRole?...) throws(StoreError) -> UnsafePointer<UnsafePointer<Float>>? {
        var pointers: [UnsafePointer<Float>] = []
        for role in roles {
            guard let norm = try norm(role) else { return nil }
            pointers.append(norm.weights)
        }
        return lists.list(pointers).baseAddress
    }

    // MARK: Steps

    mutating func beginLayer() { firsts.append(steps.count) }

    mutating func rows(_ operations: RowOperation...) {
        steps.append(Step(work: .rows(lists.list(operations))))
    }

    mutating func channels(_ recurrence: Recurrence) {
        steps.append(Step(work: .channels(recurrence)))
    }

    mutating func heads(_ attention: Attention) { steps.append(Step(work: .heads(attention))) }

    /// The product that the step before it makes rows for.
    mutating func product(_ operands: [Operand], fusedWith fusion: Fusion = .none) {
        steps[steps.count - 1].product = Product(operands: lists.list(operands), fusion: fusion)
    }

    /// A ternary head.
    func head(_ operations: [RowOperation], _ matrix: TernaryMatrix) -> Step {
        Step(
            work: .logitRows(lists.list(operations)),
            product: Product(operands: lists.list(Self.operands([matrix])), fusion: .logits))
    }

    /// Matrices side by side in a row of products.
    ///
    /// - Parameter shared: all take the first set of quantised rows; otherwise each has its own.
    static func operands(_ matrices: [TernaryMatrix], shared: Bool = false) -> [Operand] {
        let stride = matrices.reduce(0) { $0 + Scratch.padded($1.rows) }
        var offset = 0
        return matrices.enumerated().map { set, matrix in
            defer { offset += Scratch.padded(matrix.rows) }
            return Operand(matrix: matrix, set: shared ? 0 : set, offset: offset, stride: stride)
        }
    }
}
