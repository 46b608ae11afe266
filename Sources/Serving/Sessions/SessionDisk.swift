// SPDX-License-Identifier: Apache-2.0

import Engine
import Logging
import ModelStore
import Synchronization

/// Writes and removes sessions' files on a thread of its own, one after the other in the order in which they were asked for, so
/// that no other thread waits for a disk.
final class SessionDisk: Sendable {
    let directory: SessionDirectory
    private let thread = JobThread(name: "mmf-sessions")
    private let logger: Logger
    private let complaints = LogLimit()

    init(_ directory: SessionDirectory, _ logger: Logger) {
        self.directory = directory
        self.logger = logger
    }

    /// - Parameters:
    ///   - part: the record from an offset on, as `SessionDirectory.write` takes it; of one that is gone nothing is written.
    ///   - done: called once the record will outlive a power cut; not at all if it cannot be written.
    func keep(
        _ id: String, _ part: @escaping @Sendable (Int) -> [UInt8]?,
        done: @escaping @Sendable () -> Void
    ) {
        thread.post { [self] in
            do throws(StoreError) {
                if try directory.write(id, part) { done() }
            } catch {
                guard let held = complaints.pass() else { return }
                logger.error(
                    "session \(id) is not kept on disk: \(error)\(held > 0 ? " (and \(held) others)" : "")"
                )
            }
        }
    }

    func remove(_ id: String) { thread.post { [directory] in directory.remove(id) } }

    /// Calls `body`, on the thread, when everything asked for before is done.
    func after(_ body: @escaping @Sendable () -> Void) { thread.post(body) }

    /// Returns when everything asked for before is done, and gives up the directory: nothing more will be asked for.
    func close() {
        finish()
        directory.unlock()
    }

    /// Returns when everything asked for before is done.
    func finish() {
        let done = Mailbox<Void>()
        after { done.post(()) }
        _ = done.drain(until: nil)
    }
}
