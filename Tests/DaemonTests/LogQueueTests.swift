// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging
import Synchronization
import Testing

@testable import SystemdSupport

@Suite("The queue before the log")
struct LogQueueTests {
    /// A reader that reads when it is let.
    private final class Reader: Sendable {
        private let gate = Mutex(false)
        private let written = Mutex<[String]>([])
        private let opened = Semaphore()

        func read(_ record: LogRecord) {
            if !gate.withLock({ $0 }) { opened.wait() }
            written.withLock { $0.append(record.parts[0]) }
        }

        func letGo() {
            gate.withLock { $0 = true }
            opened.signal()
        }

        var lines: [String] { written.withLock { $0 } }
    }

    @Test("whoever logs does not wait for a reader; what does not fit is counted and told")
    func bounded() {
        let reader = Reader()
        var limits = LogQueue.Limits()
        limits.records = 10
        let queue = LogQueue(.terminal, limits: limits) { reader.read($0) }
        let logger = Logger(label: "t") { queue.handler(label: $0) }
        logger.info("first")
        for number in 0..<100 { logger.info("\(number)") }
        #expect(!queue.flush(within: .milliseconds(1)))
        #expect(reader.lines.isEmpty)
        reader.letGo()
        #expect(queue.flush(within: .seconds(60)))
        let lines = reader.lines
        #expect(lines.first == "t: first\n")
        let dropped = lines.filter { $0.contains("log records were dropped: nobody read the log") }
            .compactMap { $0.split(separator: " ").compactMap { Int($0) }.first }
        let written = lines.count - dropped.count
        // What the writer has taken before it waits, and what the queue holds.
        #expect((10...20).contains(written), "\(lines)")
        #expect(dropped.reduce(written, +) == 101)
    }

    @Test("one user's long texts do not grow it either")
    func bytes() {
        let reader = Reader()
        var limits = LogQueue.Limits()
        limits.bytes = 100_000
        let queue = LogQueue(.terminal, limits: limits) { reader.read($0) }
        let logger = Logger(label: "t") { queue.handler(label: $0) }
        let text = String(repeating: "x", count: 30_000)
        for _ in 0..<50 { logger.info("\(text)") }
        reader.letGo()
        #expect(queue.flush(within: .seconds(60)))
        // Three that wait, at most three that the writer had taken before it was held up, and a notice of what was dropped after each.
        #expect((4...8).contains(reader.lines.count))
    }

    @Test("a pipe nobody reads does not hold up who logs")
    func fullPipe() {
        // A pipe in all but that writing to it when it is closed is an error, and no signal.
        var ends: [Int32] = [0, 0]
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &ends)
        let (output, input) = (ends[0], ends[1])
        let queue = LogQueue(.terminal) { record in
            for line in record.parts { _ = send(input, line, line.utf8.count, Int32(MSG_NOSIGNAL)) }
        }
        let logger = Logger(label: "t") { queue.handler(label: $0) }
        // More than it holds.
        for number in 0..<3000 { logger.info("\(number) \(String(repeating: "x", count: 99))") }
        #expect(!queue.flush(within: .milliseconds(10)))
        // Its writer fails now, and goes on.
        close(output)
        #expect(queue.flush(within: .seconds(60)))
        close(input)
    }

    @Test("the level is the queue's, at once, for every logger that has none of its own")
    func level() {
        let queue = LogQueue(.terminal, level: .error) { _ in }
        let logger = Logger(label: "t") { queue.handler(label: $0) }
        var own = logger
        own.logLevel = .trace
        #expect(logger.logLevel == .error)
        queue.level = .debug
        #expect(logger.logLevel == .debug)
        #expect(own.logLevel == .trace)
    }
}

private final class Semaphore: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() { sem_init(semaphore, 0, 0) }
    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func wait() { while sem_wait(semaphore) != 0 {} }
    func signal() { sem_post(semaphore) }
}
