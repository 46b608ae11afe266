// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Bytes of the bodies of all requests that are being read or answered.
final class BodyBudget: Sendable {
    private let used = Atomic<Int>(0)
    private let limit: Int

    init(_ limit: Int) { self.limit = limit }

    var bytes: Int { used.load(ordering: .relaxed) }

    func charge() -> Charge { Charge(self) }

    /// What one request takes; given back when it ends.
    struct Charge: ~Copyable {
        private let budget: BodyBudget
        private let taken = Atomic<Int>(0)

        fileprivate init(_ budget: BodyBudget) { self.budget = budget }

        /// - Returns: false if that is more than there is.
        borrowing func add(_ bytes: Int) -> Bool {
            guard budget.used.wrappingAdd(bytes, ordering: .relaxed).newValue <= budget.limit else {
                budget.used.wrappingSubtract(bytes, ordering: .relaxed)
                return false
            }
            taken.wrappingAdd(bytes, ordering: .relaxed)
            return true
        }

        deinit {
            budget.used.wrappingSubtract(taken.load(ordering: .relaxed), ordering: .relaxed)
        }
    }
}
