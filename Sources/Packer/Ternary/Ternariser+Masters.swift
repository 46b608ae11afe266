// SPDX-License-Identifier: Apache-2.0

/// The rules of matrices with attention around them: masters are made ternary in float32, whatever type they are stored in.
///
/// Source: transformers 5.24, integrations/bitnet.py `WeightQuant`, as the golden case "masters" holds it.
extension Ternariser {
    /// How float masters become trits. Refuses NaN, infinity, and masters that are ternary already unless told what they mean.
    package func masterRule(
        for tensor: CheckpointTensor, _ masters: TernaryMasters?
    ) throws(PackError) -> TernaryRule {
        let scan = WeightScan(tensor, parallel: parallel)
        guard scan.isFinite else { throw Self.firstNotFinite(in: tensor) }
        let rule = TernaryRule(masters: tensor.type, count: tensor.count, scan: scan)
        // Of one magnitude without zeros both readings make the same.
        if scan.nonzero >= 2, scan.nonzero < tensor.count, let bits = scan.onlyMagnitude {
            let magnitude = tensor.type.value(ofBits: bits)
            switch masters {
            case .recompute: break
            case .keep: return TernaryRule(kept: magnitude)
            case nil:
                throw .tensor(
                    tensor.name,
                    what:
                        "its weights are ternary already, −\(magnitude), 0 and \(magnitude): --ternary-masters keep takes \(magnitude) for "
                        + "their scale, --ternary-masters recompute \(rule.scale), the mean magnitude, as transformers does"
                )
            }
        }
        guard rule.scale.isFinite else {
            throw .tensor(
                tensor.name,
                what:
                    "its weights are so large (mean \(scan.sum / Double(tensor.count))) that F32 holds no scale for them"
            )
        }
        return rule
    }

    /// The rule of floats that are −1, 0 and 1; nil if they are not. Refuses NaN and infinity.
    package func tritRule(for tensor: CheckpointTensor) throws(PackError) -> TernaryRule? {
        let scan = WeightScan(tensor, parallel: parallel)
        guard scan.isFinite else { throw Self.firstNotFinite(in: tensor) }
        guard scan.nonzero == 0 || scan.onlyMagnitude == tensor.type.bits(of: 1) else {
            return nil
        }
        return TernaryRule(kept: 1)
    }
}

extension TernaryRule {
    /// mul = fl(1 / max(mean, 1e-5)); ±1 where fl(|w| · mul) is above one half; the scale is fl(1 / mul).
    init(masters type: ElementType, count: Int, scan: WeightScan) {
        let mean = max(Float(scan.sum / Double(count)), 1e-5)
        let multiplier = 1 / mean
        self.init(
            threshold: scan.nonzero == 0
                ? type.infinity : Self.threshold(type, multiplier) { $0 },
            scale: 1 / multiplier)
    }

    /// Weights of one magnitude beside zero, which is their scale.
    init(kept magnitude: Float) {
        self.init(threshold: 1, scale: magnitude, alreadyTernary: true)
    }
}
