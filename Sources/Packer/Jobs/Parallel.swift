// SPDX-License-Identifier: Apache-2.0

internal import Dispatch
internal import Glibc

/// Runs independent pieces of work on several cores.
///
/// What the pieces are never depends on how many cores there are, so neither do results.
package struct Parallel: Sendable {
    package let workers: Int

    /// `workers`: threads to use; as many as processors are online if nil. Who knows how many this
    /// process may have says so.
    package init(workers: Int? = nil) {
        self.workers = max(1, workers ?? sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    }

    /// Calls `body` once with each of 0..<count, in any order, and returns when all are done.
    func perform(_ count: Int, _ body: @Sendable (Int) -> Void) {
        guard workers > 1, count > 1 else {
            for index in 0..<count { body(index) }
            return
        }
        // One iteration per worker: each takes every workers-th piece.
        let threads = min(workers, count)
        DispatchQueue.concurrentPerform(iterations: threads) { thread in
            var index = thread
            while index < count {
                body(index)
                index += threads
            }
        }
    }
}
