// SPDX-License-Identifier: Apache-2.0

import CKernels
import Glibc

/// How products are cut into shares and what is done with them at once. It changes speed only, never a bit of a result.
///
/// What is best depends on the processor, which the kernel table tells; `mmfreectl bench --tune` measures the others.
package struct Tuning: Sendable, Hashable {
    /// Into how many shares for each worker small matrices are cut, so that all are done at about the same time.
    package var shares = 6
    /// Bytes of a matrix that a worker takes at a time, at most, where up to eight rows are multiplied: long enough to stream, short
    /// enough to leave some to others.
    package var fewRowsBytes = 160 << 10
    /// The same where more rows are multiplied; they pass over it while it is in the second-level cache.
    package var manyRowsBytes = 256 << 10
    /// Whether what belongs to one channel alone is done by whoever has just multiplied it.
    package var isFused = true

    /// The environment variable that changes parts of it: `shares=4,few=160K,many=512K,fused=no`.
    package static let variable = "MMFREED_TUNING"

    /// What is best for the processor that the kernels are for.
    package init(_ kernels: Kernels.Table) {
        switch Kernels.name(of: kernels) {
        case "avx512amx":
            // Each share turns the rows of activations into the tiles' order.
            (shares, fewRowsBytes, manyRowsBytes) = (3, 384 << 10, 1 << 20)
        case "avx512zen5": shares = 1
        default: break
        }
    }

    /// What is best, but for what the environment says.
    package static func fromEnvironment(_ kernels: Kernels.Table) throws(ModelError) -> Tuning {
        var tuning = Tuning(kernels)
        if let text = getenv(variable) { try tuning.change(String(cString: text)) }
        return tuning
    }

    /// Changes the parts that `text` names.
    package mutating func change(_ text: String) throws(ModelError) {
        for part in text.split(separator: ",") {
            let pair = part.split(separator: "=", maxSplits: 1)
            let value = pair.count == 2 ? pair[1] : ""
            switch pair.first {
            case "shares":
                guard let number = Int(value), (1...64).contains(number) else {
                    throw .badTuning(String(part), "shares is 1 to 64")
                }
                shares = number
            case "few": fewRowsBytes = try Self.bytes(value, part)
            case "many": manyRowsBytes = try Self.bytes(value, part)
            case "fused" where value == "yes" || value == "no": isFused = value == "yes"
            case "fused": throw .badTuning(String(part), "fused is yes or no")
            default: throw .badTuning(String(part), "it names shares, few, many or fused")
            }
        }
    }

    private static func bytes(
        _ value: Substring, _ part: Substring
    ) throws(ModelError) -> Int {
        guard value.last == "K", let number = Int(value.dropLast()), (16...65536).contains(number)
        else { throw .badTuning(String(part), "few and many are 16K to 65536K") }
        return number << 10
    }

    /// As the variable has it.
    package var text: String {
        "shares=\(shares),few=\(fewRowsBytes >> 10)K,many=\(manyRowsBytes >> 10)K,fused=\(isFused ? "yes" : "no")"
    }
}
