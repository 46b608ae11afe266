// SPDX-License-Identifier: Apache-2.0

import Serving
import Testing

@Suite("Slots are shared out fairly")
struct FairnessTests {
    @Test("the victim is the newest of those of the users with the most, unless that is one each")
    func victim() {
        #expect(Fairness.victim([3, 3, 3]) == 2)
        #expect(Fairness.victim([2, 3, 3, 2, 3, 1]) == 4)
        #expect(Fairness.victim([2, 1, 2]) == 2)
        #expect(Fairness.victim([1, 1]) == nil)
        #expect(Fairness.victim([]) == nil)
    }
}
