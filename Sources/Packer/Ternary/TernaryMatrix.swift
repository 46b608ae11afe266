// SPDX-License-Identifier: Apache-2.0

internal import ModelStore

/// What to do with float masters that hold −a, 0 and a only: whoever wrote them may mean either.
package enum TernaryMasters: String, Sendable, CaseIterable {
    /// The scale stays a.
    case keep
    /// The scale is the mean magnitude, as transformers computes it.
    case recompute
}

/// A ternary matrix of a checkpoint with attention: where its trits come from, and the factor that they are multiplied by.
package struct TernaryMatrix {
    package enum Trits {
        /// Floats, by a comparison each.
        case floats(TernaryRule)
        /// Two bits each in U8 [rows/4, columns]: byte row r holds rows r, r + rows/4, r + rows/2, r + 3·rows/4, lowest bits first.
        case quarters
    }

    package let tensor: CheckpointTensor
    package let rows, columns: Int
    package let trits: Trits
    package let scale: Float

    /// Trits of `rows`, row-major. Returns how many are not zero.
    @discardableResult
    func copy(_ range: Range<Int>, _ ternariser: Ternariser, to out: UnsafeMutablePointer<Int8>)
        -> Int
    {
        switch trits {
        case .floats(let rule):
            return ternariser.trits(
                of: tensor, rule, range.lowerBound * columns..<range.upperBound * columns, to: out)
        case .quarters:
            return tensor.withBytes { bytes in
                var nonzero = 0
                for (place, row) in range.enumerated() {
                    let shift = UInt8(2 * (row / (rows / 4)))
                    let from = row % (rows / 4) * columns
                    let to = out + place * columns
                    var k = 0
                    while k < columns {
                        let trit = Int8(bytes[from &+ k] >> shift & 3) &- 1
                        to[k] = trit
                        nonzero &+= trit == 0 ? 0 : 1
                        k &+= 1
                    }
                }
                return nonzero
            }
        }
    }

    /// All trits, [rows, columns] row-major.
    package func allTrits(_ ternariser: Ternariser = Ternariser()) -> [Int8] {
        [Int8](unsafeUninitializedCapacity: rows * columns) { buffer, initialized in
            if let base = buffer.baseAddress { copy(0..<rows, ternariser, to: base) }
            initialized = rows * columns
        }
    }

    /// Where a packed tensor holds the code 3, which is no trit.
    static func firstCodeThree(_ tensor: CheckpointTensor) -> Int? {
        tensor.withBytes { bytes in
            var k = 0
            while k < bytes.count {
                if bytes[k] & bytes[k] >> 1 & 0x55 != 0 { return k }
                k &+= 1
            }
            return nil
        }
    }
}
