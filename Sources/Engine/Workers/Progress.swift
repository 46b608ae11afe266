// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Signs of life of a thread that computes: it counts, others look whether the count rises.
package final class Progress: Sendable {
    private let count = Atomic<UInt64>(0)

    package init() {}

    package func advance() { count.wrappingAdd(1, ordering: .relaxed) }
    package var value: UInt64 { count.load(ordering: .relaxed) }
}
