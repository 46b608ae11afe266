// SPDX-License-Identifier: Apache-2.0

import Logging
import Testing

@testable import mmfreed

@Suite("The end of an idle daemon")
struct IdleExitTests {
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    @Test("it comes when nothing was asked and nothing is open since the last look")
    func comes() {
        var (begun, open) = (UInt64(3), 0)
        let duty = IdleExit(limit: .seconds(9), logger) { .init(begun: begun, open: open) }
        begun = 4
        #expect(duty.perform())
        // An answer that is still being written, or read.
        open = 1
        #expect(duty.perform())
        open = 0
        #expect(!duty.perform())
    }

    @Test("once it has come it is not due again at once: what is left to do takes its time")
    func notAgain() {
        let duty = IdleExit(limit: .seconds(9), logger) { .init(begun: 0, open: 0) }
        let before = duty.due
        #expect(!duty.perform())
        #expect(duty.due > before)
    }
}
