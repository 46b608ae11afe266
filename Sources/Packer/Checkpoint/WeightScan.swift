// SPDX-License-Identifier: Apache-2.0

/// What one pass over a tensor learns of its magnitudes.
package struct WeightScan: Sendable, Equatable {
    /// Σ |w| over all elements.
    package var sum = 0.0
    package var nonzero = 0
    /// The bits of |w| if all non-zero elements share them.
    package var onlyMagnitude: UInt32?
    package var isFinite = true

    package init() {}
}

extension WeightScan {
    /// Elements a piece of an F32 tensor has. Part of the result: partial sums are per piece.
    private static let pieceSize = 1 << 18

    /// Scans a tensor of F32, F16 or BF16. The result does not depend on the number of workers.
    package init(_ tensor: CheckpointTensor, parallel: Parallel) {
        switch tensor.type {
        case .f32: self.init(wide: tensor, parallel)
        case .f16, .bf16: self.init(narrow: tensor, parallel)
        case .i8, .u8, .i64: preconditionFailure("checked when the checkpoint was opened")
        }
    }

    /// Sixteen bits have 32768 magnitudes: counting each gives the sum in an order of its own,
    /// exactly the same on any number of cores, and everything else besides.
    private init(narrow tensor: CheckpointTensor, _ parallel: Parallel) {
        let bins = 1 << 15
        let pieces = (tensor.count + Self.pieceSize - 1) / Self.pieceSize
        let parts = max(1, min(parallel.workers, pieces))
        var counts = [UInt32](repeating: 0, count: parts * bins)
        counts.withUnsafeMutableBufferPointer { counts in
            nonisolated(unsafe) let base = counts.baseAddress.unsafelyUnwrapped
            parallel.perform(parts) { part in
                let mine = base + part * bins
                for piece in stride(from: part, to: pieces, by: parts) {
                    let start = piece * Self.pieceSize
                    let range = start..<min(tensor.count, start + Self.pieceSize)
                    tensor.withElements(of: UInt16.self, range) { weights in
                        var k = 0
                        while k < weights.count {
                            mine[Int(weights[k] & 0x7fff)] &+= 1
                            k &+= 1
                        }
                    }
                }
            }
            var distinct = 0
            var bin = 0
            while bin &+ 1 < bins {
                bin &+= 1
                var total = 0
                var part = 0
                while part < parts {
                    total &+= Int(base[part &* bins &+ bin])
                    part &+= 1
                }
                if total == 0 { continue }
                distinct += 1
                onlyMagnitude = distinct == 1 ? UInt32(bin) : nil
                nonzero += total
                if bin >= tensor.type.infinity { isFinite = false }
                sum += Double(tensor.type.value(ofBits: UInt32(bin))) * Double(total)
            }
        }
    }

    private init(wide tensor: CheckpointTensor, _ parallel: Parallel) {
        let pieces = (tensor.count + Self.pieceSize - 1) / Self.pieceSize
        var scans = [WeightScan](repeating: WeightScan(), count: pieces)
        var mixed = [Bool](repeating: false, count: pieces)
        scans.withUnsafeMutableBufferPointer { scans in
            mixed.withUnsafeMutableBufferPointer { mixed in
                nonisolated(unsafe) let (scans, mixed) = (scans, mixed)
                parallel.perform(pieces) { piece in
                    let start = piece * Self.pieceSize
                    let range = start..<min(tensor.count, start + Self.pieceSize)
                    (scans[piece], mixed[piece]) = tensor.withElements(
                        of: UInt32.self, range, Self.scan)
                }
            }
        }
        var uniform = true
        for (scan, isMixed) in zip(scans, mixed) {
            sum += scan.sum
            nonzero += scan.nonzero
            isFinite = isFinite && scan.isFinite
            if isMixed { uniform = false }
            if let magnitude = scan.onlyMagnitude {
                if let seen = onlyMagnitude, seen != magnitude { uniform = false }
                onlyMagnitude = onlyMagnitude ?? magnitude
            }
        }
        if !uniform { onlyMagnitude = nil }
    }

    /// One piece in order, and whether it holds different magnitudes.
    private static func scan(_ weights: UnsafeBufferPointer<UInt32>) -> (WeightScan, Bool) {
        var sum = 0.0
        var nonzero = 0
        var first: UInt32 = 0
        var different: UInt32 = 0
        var largest: UInt32 = 0
        var k = 0
        while k < weights.count {
            let magnitude = weights[k] & 0x7fff_ffff
            sum += Double(Float(bitPattern: magnitude))
            largest = max(largest, magnitude)
            if magnitude != 0 {
                if nonzero == 0 { first = magnitude }
                different |= magnitude ^ first
                nonzero &+= 1
            }
            k &+= 1
        }
        var scan = WeightScan()
        scan.sum = sum
        scan.nonzero = nonzero
        scan.onlyMagnitude = nonzero > 0 ? first : nil
        scan.isFinite = largest < ElementType.f32.infinity
        return (scan, different != 0)
    }
}
