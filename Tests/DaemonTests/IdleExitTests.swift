// SPDX-License-Identifier: Apache-2.0

import Logging
import Testing

@testable import mmfreed

@Suite("The end of an idle daemon")
struct IdleExitTests {
    private let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    /// Nanoseconds in a second.
    private let second: UInt64 = 1_000_000_000

    /// Lets the time pass as the main thread does: from due to due.
    ///
    /// - Returns: when the daemon ended; `nil` if it did not within `limit` seconds.
    private func end(
        idleExit: Duration, within limit: UInt64 = 1000,
        idleSince: @escaping (_ now: UInt64) -> UInt64?
    ) -> UInt64? {
        var now: UInt64 = 0
        let duty = IdleExit(
            limit: idleExit, logger, clock: { now }, idleSince: { idleSince(now) })
        while let due = duty.due, due <= limit * second {
            now = max(now, due)
            if !duty.perform() { return now / second }
        }
        return nil
    }

    @Test("it comes idle_exit seconds after the last connection was closed, not up to twice that")
    func time() {
        let second = second
        // Open from the second 1 to the second 10.
        #expect(
            end(idleExit: .seconds(9)) { now in
                now < 1 * second ? 0 : now < 10 * second ? nil : 10 * second
            } == 19)
        #expect(end(idleExit: .seconds(9)) { _ in 0 } == 9)
    }

    @Test("it does not come while a connection is open, however long it asks nothing")
    func open() {
        #expect(end(idleExit: .seconds(9)) { _ in nil } == nil)
    }

    @Test("0 is never, and less than five seconds are five")
    func limits() {
        #expect(end(idleExit: .zero) { _ in 0 } == nil)
        #expect(end(idleExit: .milliseconds(1)) { _ in 0 } == 5)
    }

    @Test("a reload changes the time")
    func changed() {
        let second = second
        let duty = IdleExit(
            limit: .zero, logger, clock: { 100 * second }, idleSince: { 90 * second })
        #expect(duty.due == nil)
        duty.limit = .seconds(20)
        #expect(duty.due == 110 * second)
        duty.limit = .zero
        #expect(duty.due == nil)
    }

    @Test("a connection that comes at the last moment puts it off")
    func lastMoment() {
        var attempts = 0
        let duty = IdleExit(
            limit: .seconds(9), logger, clock: { [second] in 9 * second }, idleSince: { 0 },
            stopAccepting: {
                attempts += 1
                return attempts == 2
            })
        #expect(duty.perform() && duty.due != nil)
        #expect(!duty.perform() && duty.due == nil)
    }

    @Test("once it has come it is not due again: what is left to do takes its time")
    func notAgain() {
        let second = second
        let duty = IdleExit(limit: .seconds(9), logger, clock: { 9 * second }, idleSince: { 0 })
        #expect(!duty.perform())
        #expect(duty.due == nil)
    }
}
