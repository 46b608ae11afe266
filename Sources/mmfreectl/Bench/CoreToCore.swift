// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import Synchronization

/// How long a cache line takes from one worker's core to another's and back: what a parallel region pays for meeting. On virtual
/// machines it changes between some 80 and some 400 ns within minutes.
final class CoreToCore {
    /// Even: the first worker's turn; odd: the second's.
    private let turn = Atomic(0)
    private let isOver = Atomic(false)
    private static let trips = 2000
    private static let mostNanoseconds: UInt64 = 50_000_000

    /// Nanoseconds; `nil` if there is one worker, or the two never run at once.
    static func roundTrip(_ workers: WorkerPool) -> Double? {
        guard workers.count > 1 else { return nil }
        let line = CoreToCore()
        let began = cl_monotonic_nanoseconds()
        workers.run(Unmanaged.passUnretained(line).toOpaque()) { context, worker in
            if worker < 2 {
                Unmanaged<CoreToCore>.fromOpaque(context).takeUnretainedValue().play(worker)
            }
        }
        let time = Double(cl_monotonic_nanoseconds() &- began)
        return line.isOver.load(ordering: .relaxed) ? nil : time / Double(trips)
    }

    private func play(_ worker: Int) {
        let began = cl_monotonic_nanoseconds()
        var next = worker
        while next < 2 * Self.trips {
            var spins = 0
            while turn.load(ordering: .acquiring) != next {
                spins += 1
                guard spins % 4096 == 0 else { continue }
                if cl_monotonic_nanoseconds() &- began > Self.mostNanoseconds {
                    isOver.store(true, ordering: .relaxed)
                }
                if isOver.load(ordering: .relaxed) { return }
            }
            turn.store(next + 1, ordering: .releasing)
            next += 2
        }
    }
}
