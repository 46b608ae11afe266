// SPDX-License-Identifier: Apache-2.0

package import NIOCore
import NIOPosix

/// Runs tasks on an event loop: a task that takes from one channel of the loop and gives to another changes no thread in between.
/// What runs there holds up the loop's channels: short work only.
package final class LoopExecutor: TaskExecutor {
    private let loop: any EventLoop

    package init(_ loop: any EventLoop) { self.loop = loop }

    /// On a loop of those that connections to daemons are on.
    package static func any() -> LoopExecutor {
        LoopExecutor(MultiThreadedEventLoopGroup.singleton.any())
    }

    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        loop.execute { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
    }

    /// Waits, or throws `CancellationError`. No timer of libdispatch's, whose first use leaves a thread behind that wakes up every second.
    package static func sleep(for time: Duration) async throws {
        let timer = MultiThreadedEventLoopGroup.singleton.any()
            .scheduleTask(in: TimeAmount(time)) {}
        do {
            try await withTaskCancellationHandler {
                try await timer.futureResult.get()
            } onCancel: {
                timer.cancel()
            }
        } catch { throw CancellationError() }
    }
}
