// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Serving

@Suite("Refusals in the log")
struct LogLimitTests {
    @Test("one message a second passes, and the next says how many did not")
    func logLimit() {
        let limit = LogLimit()
        let second: UInt64 = 1_000_000_000
        #expect(limit.pass(now: 5 * second) == 0)
        #expect(limit.pass(now: 5 * second + 1) == nil)
        #expect(limit.pass(now: 6 * second - 1) == nil)
        #expect(limit.pass(now: 6 * second) == 2)
        #expect(limit.pass(now: 7 * second) == 0)
    }
}
