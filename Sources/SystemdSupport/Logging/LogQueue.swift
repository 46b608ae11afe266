// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
package import Logging

/// Log records on their way out. Whoever logs never waits for whoever reads the log: a thread writes, a bounded queue stands
/// before it, and what does not fit is counted and told.
package final class LogQueue: @unchecked Sendable {
    /// The most that waits.
    package struct Limits: Sendable {
        package var records = 4096
        package var bytes = 1 << 20

        package init() {}
    }

    private struct State {
        var waiting: [LogRecord] = []
        var bytes = 0
        var dropped = 0
        var isWriting = false
        var isStarted = false
        var level: Logger.Level
    }

    private var state: State
    private let limits: Limits
    private let format: LogFormat
    private let write: @Sendable (LogRecord) -> Void
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    /// Something waits.
    private let filled = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// All is written.
    private let emptied = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    /// - Parameter write: writes a record and may take as long as it likes. Runs on the queue's own thread.
    package init(
        _ format: LogFormat, level: Logger.Level = .info, limits: Limits = Limits(),
        write: (@Sendable (LogRecord) -> Void)? = nil
    ) {
        state = State(level: level)
        self.format = format
        self.limits = limits
        self.write = write ?? format.write
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(filled, nil)
        pthread_cond_init(emptied, nil)
    }

    /// The least important messages that are logged.
    package var level: Logger.Level {
        get { withState { $0.level } }
        set { withState { $0.level = newValue } }
    }

    package func handler(label: String) -> any LogHandler {
        QueuedLogHandler(queue: self, format: format, label: label)
    }

    func append(_ record: LogRecord) {
        withState { state in
            guard state.waiting.count < limits.records,
                state.bytes + record.byteCount <= limits.bytes
            else {
                state.dropped += 1
                return
            }
            state.waiting.append(record)
            state.bytes += record.byteCount
            // With the first record, for a thread inherits its signal mask.
            if !state.isStarted {
                state.isStarted = true
                startWriter()
            }
            pthread_cond_signal(filled)
        }
    }

    /// Waits until all is written, but not longer than this.
    ///
    /// - Returns: whether all is.
    @discardableResult
    package func flush(within limit: Duration) -> Bool {
        var end = timespec()
        clock_gettime(CLOCK_REALTIME, &end)
        let nanoseconds = Int64(end.tv_nsec) + limit.microseconds * 1000
        end.tv_sec += Int(nanoseconds / 1_000_000_000)
        end.tv_nsec = Int(nanoseconds % 1_000_000_000)
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while state.isWriting || !state.waiting.isEmpty {
            if pthread_cond_timedwait(emptied, mutex, &end) == ETIMEDOUT { return false }
        }
        return true
    }

    private func run() {
        cl_name_thread("mmf-log")
        while true {
            let (records, dropped) = take()
            for record in records { write(record) }
            if dropped > 0 {
                write(format.notice("\(dropped) log records were dropped: nobody read the log"))
            }
        }
    }

    /// Waits for records. No access to `state` lasts through a wait: the optimiser takes what one sees for unchanged.
    private func take() -> (records: [LogRecord], dropped: Int) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        state.isWriting = false
        pthread_cond_broadcast(emptied)
        while state.waiting.isEmpty { pthread_cond_wait(filled, mutex) }
        defer { (state.waiting, state.bytes, state.dropped) = ([], 0, 0) }
        state.isWriting = true
        return (state.waiting, state.dropped)
    }

    private func startWriter() {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        pthread_attr_setstacksize(&attributes, 256 << 10)
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        defer { pthread_attr_destroy(&attributes) }
        var thread: pthread_t = 0
        let queue = Unmanaged.passRetained(self)
        let error = pthread_create(
            &thread, &attributes,
            { context in
                if let context {
                    Unmanaged<LogQueue>.fromOpaque(context).takeRetainedValue().run()
                }
                return nil
            }, queue.toOpaque())
        if error != 0 { queue.release() }
    }

    private func withState<R>(_ body: (inout State) -> R) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body(&state)
    }
}

/// Puts what a program logs into the queue.
struct QueuedLogHandler: LogHandler {
    let queue: LogQueue
    let format: LogFormat
    let label: String
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    private var own: Logger.Level?

    init(queue: LogQueue, format: LogFormat, label: String) {
        self.queue = queue
        self.format = format
        self.label = label
    }

    /// The queue's, unless this logger has one of its own.
    var logLevel: Logger.Level {
        get { own ?? queue.level }
        set { own = newValue }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        // What a record says of itself goes before what the provider says, and that before what the logger says.
        var all = metadata
        if let metadataProvider { all.merge(metadataProvider.get()) { $1 } }
        if let own = event.metadata { all.merge(own) { $1 } }
        queue.append(format.record(of: event, label: label, all.sorted { $0.key < $1.key }))
    }
}
