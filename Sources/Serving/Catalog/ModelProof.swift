// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Whether what one version of a model computes can be relied on. It outlives the mapping: sessions keep it until it is settled.
final class ModelProof: Sendable {
    enum Verdict: UInt8 {
        /// Its bytes are still being compared with their digests.
        case open
        /// They are what their digests tell.
        case sound
        /// They are not, or were written before all had been compared.
        case damaged
        /// Nobody will find out.
        case unknown
    }

    private let value: Atomic<UInt8>

    init(_ verdict: Verdict) { value = Atomic(verdict.rawValue) }

    var verdict: Verdict { Verdict(rawValue: value.load(ordering: .acquiring)) ?? .unknown }

    /// Settles what is open; what is settled stays.
    func settle(_ verdict: Verdict) {
        _ = value.compareExchange(
            expected: Verdict.open.rawValue, desired: verdict.rawValue,
            ordering: .acquiringAndReleasing)
    }
}
