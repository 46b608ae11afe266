// SPDX-License-Identifier: Apache-2.0

import NIOPosix

/// Runs what takes a while, away from the event loop: requests of megabytes are read and checked there, templates rendered, answers
/// written. Threads of NIO's, for those of Swift's own pool wake up every second once they have run.
final class Workers: TaskExecutor {
    private let pool = NIOThreadPool.singleton

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        pool.submit { _ in job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }
}
