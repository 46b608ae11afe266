// SPDX-License-Identifier: Apache-2.0

import Engine

/// A thread that does what is posted to it, one after another. It may wait for disks; nobody waits for it.
final class JobThread: Sendable {
    private let mailbox = Mailbox<(@Sendable () -> Void)?>()

    init(name: String) {
        startThread(name: name) { [mailbox] in
            while true {
                for job in mailbox.drain(until: nil) {
                    guard let job else { return }
                    job()
                }
            }
        }
    }

    deinit { mailbox.post(nil) }

    func post(_ job: @escaping @Sendable () -> Void) { mailbox.post(job) }
}
