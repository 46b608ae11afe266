// SPDX-License-Identifier: Apache-2.0

/// Turns a checkpoint's float matrices into trits as the original code does at run time.
///
/// All arithmetic is in the tensor's own type: F32 arithmetic on a BF16 tensor would flip about one
/// trit in five hundred. Source: matmulfreellm, mmfreelm/ops/fusedbitnet.py `weight_quant`.
package struct Ternariser: Sendable {
    package let parallel: Parallel

    package init(parallel: Parallel = Parallel()) { self.parallel = parallel }

    /// Reads the whole tensor once and says how to ternarise it. Refuses NaN and infinity.
    package func rule(for tensor: CheckpointTensor) throws(PackError) -> TernaryRule {
        let scan = WeightScan(tensor, parallel: parallel)
        guard scan.isFinite else { throw Self.firstNotFinite(in: tensor) }
        let rule = TernaryRule(type: tensor.type, count: tensor.count, scan: scan)
        guard rule.scale.isFinite else {
            throw .tensor(
                tensor.name,
                what: "its weights are so large (mean \(scan.sum / Double(tensor.count))) that "
                    + "\(tensor.type.rawValue) holds no scale for them")
        }
        return rule
    }

    /// Refuses NaN and infinity anywhere in the tensor.
    package func checkFinite(_ tensor: CheckpointTensor) throws(PackError) {
        guard WeightScan(tensor, parallel: parallel).isFinite else {
            throw Self.firstNotFinite(in: tensor)
        }
    }

    /// Trits of the elements of `range`. Returns how many are not zero.
    @discardableResult
    package func trits(
        of tensor: CheckpointTensor, _ rule: TernaryRule, _ range: Range<Int>,
        to out: UnsafeMutablePointer<Int8>
    ) -> Int {
        switch tensor.type {
        case .f32:
            tensor.withElements(of: UInt32.self, range) { rule.trits($0, to: out) }
        case .f16, .bf16:
            tensor.withElements(of: UInt16.self, range) { rule.trits($0, to: out) }
        case .i8, .u8, .i64: preconditionFailure("checked when the checkpoint was opened")
        }
    }

    /// All trits, [rows, columns] row-major.
    package func trits(of tensor: CheckpointTensor, _ rule: TernaryRule) -> [Int8] {
        [Int8](unsafeUninitializedCapacity: tensor.count) { buffer, initialized in
            if let base = buffer.baseAddress {
                trits(of: tensor, rule, 0..<tensor.count, to: base)
            }
            initialized = tensor.count
        }
    }

    /// Whether each row by itself looks ternary while the matrix does not: at most two magnitudes
    /// beside zero in every row. Some converters scale rows; one scale per matrix would be wrong.
    package func isScaledByRow(_ tensor: CheckpointTensor, _ rule: TernaryRule) -> Bool {
        guard !rule.alreadyTernary, tensor.rows > 1, tensor.columns >= 16 else { return false }
        var anyRow = false
        for row in 0..<tensor.rows {
            let range = row * tensor.columns..<(row + 1) * tensor.columns
            let magnitudes =
                switch tensor.type {
                case .f32:
                    tensor.withElements(of: UInt32.self, range) { row in
                        Self.magnitudes(row.lazy.map { $0 & 0x7fff_ffff })
                    }
                default:
                    tensor.withElements(of: UInt16.self, range) { row in
                        Self.magnitudes(row.lazy.map { UInt32($0 & 0x7fff) })
                    }
                }
            // An ordinary matrix leaves here at its first row.
            guard let magnitudes else { return false }
            if magnitudes > 0 { anyRow = true }
        }
        return anyRow
    }

    /// How many different non-zero values there are; nil if more than two.
    private static func magnitudes(_ row: some Sequence<UInt32>) -> Int? {
        var (first, second): (UInt32, UInt32) = (0, 0)
        for magnitude in row where magnitude != 0 && magnitude != first && magnitude != second {
            if first == 0 {
                first = magnitude
            } else if second == 0 {
                second = magnitude
            } else {
                return nil
            }
        }
        return (first == 0 ? 0 : 1) + (second == 0 ? 0 : 1)
    }

    static func firstNotFinite(in tensor: CheckpointTensor) -> PackError {
        var chunk = [Float](repeating: 0, count: 1 << 16)
        for start in stride(from: 0, to: tensor.count, by: chunk.count) {
            let end = min(tensor.count, start + chunk.count)
            let place = chunk.withUnsafeMutableBufferPointer { chunk -> Int? in
                guard let base = chunk.baseAddress else { return nil }
                tensor.copyFloats(start..<end, to: base)
                return chunk[0..<end - start].firstIndex { !$0.isFinite }
            }
            if let place {
                return .notFinite(
                    tensor: tensor.name, index: start + place, value: "\(chunk[place])")
            }
        }
        return .notFinite(tensor: tensor.name, index: 0, value: "unknown")
    }
}
