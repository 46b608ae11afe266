// SPDX-License-Identifier: Apache-2.0

internal import CKernels

/// Turns rows of the embedding into q6 blocks and measures what that costs.
struct EmbeddingCoder {
    struct Rows {
        var bytes: [UInt8]
        /// Σ (decoded − value)² and Σ value² over the rows.
        var error: Double
        var power: Double
    }

    let parallel: Parallel

    /// The largest magnitude of either sign that a block holds: the largest half, 31 times.
    private static let limit: Float = 65504 * 31

    /// The rows of `range`. Refuses NaN, infinity and what is too large for q6.
    func encode(_ tensor: CheckpointTensor, rows range: Range<Int>) throws(PackError) -> Rows {
        let columns = tensor.columns
        let rowBytes = ck_q6_row_bytes(columns)
        var result = Rows(
            bytes: [UInt8](repeating: 0, count: range.count * rowBytes), error: 0, power: 0)
        var sums = [(error: Double, power: Double)](repeating: (0, 0), count: range.count)
        result.bytes.withUnsafeMutableBufferPointer { bytes in
            sums.withUnsafeMutableBufferPointer { sums in
                nonisolated(unsafe) let (bytes, sums) = (bytes, sums)
                parallel.perform(range.count) { row in
                    guard let out = bytes.baseAddress else { return }
                    let start = (range.lowerBound + row) * columns
                    withUnsafeTemporaryAllocation(of: Float.self, capacity: 2 * columns) {
                        guard let values = $0.baseAddress else { return }
                        tensor.copyFloats(start..<start + columns, to: values)
                        sums[row] = Self.encode(
                            values, columns, to: out + row * rowBytes, decoded: values + columns)
                    }
                }
            }
        }
        for (row, sum) in sums.enumerated() {
            guard sum.power.isFinite, sum.error.isFinite else {
                throw Self.notFinite(tensor, row: range.lowerBound + row)
            }
            result.error += sum.error
            result.power += sum.power
        }
        return result
    }

    private static func encode(
        _ values: UnsafePointer<Float>, _ count: Int, to out: UnsafeMutablePointer<UInt8>,
        decoded: UnsafeMutablePointer<Float>
    ) -> (error: Double, power: Double) {
        var power = 0.0
        var largest: Float = 0
        var k = 0
        while k < count {
            power += Double(values[k]) * Double(values[k])
            largest = max(largest, abs(values[k]))
            k &+= 1
        }
        // The encoder is given finite numbers only, and none that it would have to cut down.
        guard power.isFinite, largest <= limit else { return (0, .infinity) }
        ck_q6_encode(values, count, out)
        ck_q6_decode(out, count, decoded)
        var error = 0.0
        k = 0
        while k < count {
            let difference = Double(decoded[k]) - Double(values[k])
            error += difference * difference
            k &+= 1
        }
        return (error, power)
    }

    private static func notFinite(_ tensor: CheckpointTensor, row: Int) -> PackError {
        var values = [Float](repeating: 0, count: tensor.columns)
        let start = row * tensor.columns
        values.withUnsafeMutableBufferPointer {
            if let base = $0.baseAddress {
                tensor.copyFloats(start..<start + tensor.columns, to: base)
            }
        }
        do {
            try tensor.checkFinite(values, from: start)
        } catch {
            return error
        }
        let largest = values.reduce(0) { max($0, abs($1)) }
        return .tensor(
            tensor.name,
            what:
                "row \(row) holds a value of magnitude \(largest), q6 holds \(limit): use --embedding keep"
        )
    }
}
