// SPDX-License-Identifier: Apache-2.0

internal import CKernels
package import ModelStore
package import Packer

/// Where the weights of a model with attention are: a checkpoint, or the packed file that was made of it.
package enum AttentionWeights {
    case checkpoint(AttentionCheckpoint, masters: TernaryMasters?)
    case packed(AttentionFile)

    package var shape: AttentionShape {
        switch self {
        case .checkpoint(let checkpoint, _): checkpoint.config.shape
        case .packed(let file): file.shape
        }
    }

    package var layout: AttentionLayout {
        switch self {
        case .checkpoint(let checkpoint, _): checkpoint.layout
        case .packed(let file): file.layout
        }
    }

    /// Bytes on disk.
    package var byteCount: Int {
        switch self {
        case .checkpoint(let checkpoint, _): checkpoint.byteCount
        case .packed(let file): file.file.byteCount
        }
    }

    /// A norm's weight.
    func vector(_ role: TensorRole) throws(PackError) -> [Float] {
        switch self {
        case .checkpoint(let checkpoint, _): return try checkpoint.tensor(role).floats()
        case .packed(let file):
            return try storing { () throws(StoreError) in
                let info = try file.file.tensor(role)
                return floats(file.file, info, 0..<role.count)
            }
        }
    }

    func vector(_ role: TensorRole, _ rounded: Precision) throws(PackError) -> [Float] {
        rounded(try vector(role))
    }

    func vector(_ role: TensorRole?, _ rounded: Precision) throws(PackError) -> [Float]? {
        guard let role else { return nil }
        return rounded(try vector(role))
    }

    /// Trits, [rows, columns], and their factor, in float32.
    func matrix(
        _ product: AttentionLayout.Product, _ precision: Precision
    ) throws(PackError) -> (trits: [Int8], scale: Float) {
        switch self {
        case .checkpoint(let checkpoint, let masters):
            let tensor = try checkpoint.tensor(product.weight)
            // Masters that lose digits to the cast become other trits.
            if precision == .bfloat16, shape.scaleSource == .masters, tensor.type != .bf16,
                masters != .keep
            {
                return ternarised(precision(try tensor.floats()))
            }
            let matrix = try checkpoint.matrix(product, masters: masters)
            return (matrix.allTrits(), matrix.scale)
        case .packed(let file):
            return try storing { () throws(StoreError) in
                let matrix = try file.file.matrix(product.weight)
                let packed = file.file.pointer(to: matrix.info).assumingMemoryBound(to: UInt8.self)
                let count = matrix.rows * matrix.columns
                let trits = [Int8](unsafeUninitializedCapacity: count) { buffer, initialized in
                    if let base = buffer.baseAddress {
                        ck_unpack(packed, matrix.rows, matrix.columns, base)
                    }
                    initialized = count
                }
                return (trits, matrix.scale)
            }
        }
    }

    /// Source: transformers 5.24, integrations/bitnet.py, `WeightQuant`.
    private func ternarised(_ weights: [Float]) -> (trits: [Int8], scale: Float) {
        var sum = 0.0
        for value in weights { sum += Double(abs(value)) }
        let factor = 1 / max(Float(sum / Double(weights.count)), 1e-5)
        let trits = weights.map { Int8(max(-1, min(1, ($0 * factor).rounded(.toNearestOrEven)))) }
        return (trits, 1 / factor)
    }

    /// One row of the embedding, or of a head that is not the embedding.
    func row(_ role: TensorRole, _ index: Int) throws(PackError) -> [Float] {
        let width = role.shape[1]
        let range = index * width..<(index + 1) * width
        switch self {
        case .checkpoint(let checkpoint, _):
            let tensor = try checkpoint.tensor(role)
            return [Float](unsafeUninitializedCapacity: width) { buffer, initialized in
                if let base = buffer.baseAddress { tensor.copyFloats(range, to: base) }
                initialized = width
            }
        case .packed(let file):
            return try storing { () throws(StoreError) in
                let info =
                    role.kind == .dense
                    ? try file.file.dense(role) : try file.file.tensor(role, file.encoding)
                guard role.kind == .embedding, file.encoding == .q6 else {
                    return floats(file.file, info, range)
                }
                let bytes = ck_q6_row_bytes(width)
                let base = file.file.pointer(to: info).assumingMemoryBound(to: UInt8.self)
                return [Float](unsafeUninitializedCapacity: width) { buffer, initialized in
                    if let out = buffer.baseAddress {
                        ck_q6_decode(base + index * bytes, width, out)
                    }
                    initialized = width
                }
            }
        }
    }

    /// Elements of a packed file's tensor, widened exactly.
    private func floats(_ file: PackedFile, _ info: TensorInfo, _ range: Range<Int>) -> [Float] {
        let base = file.pointer(to: info)
        return range.map { k in
            switch info.type {
            case .f16: Float(base.load(fromByteOffset: 2 * k, as: Float16.self))
            case .bf16:
                Float(bitPattern: UInt32(base.load(fromByteOffset: 2 * k, as: UInt16.self)) << 16)
            default: base.load(fromByteOffset: 4 * k, as: Float.self)
            }
        }
    }
}

private func storing<R>(_ body: () throws(StoreError) -> R) throws(PackError) -> R {
    do { return try body() } catch { throw .store(error) }
}
