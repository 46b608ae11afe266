// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// Hands out numbered pieces of work, the tiles of a product or the rows of a batch: each worker walks a run of its own, for
/// tiles one sequential stream, and then takes what slower workers have left. A core that is busy elsewhere delays nobody.
struct WorkShares: ~Copyable {
    private let workers: Int
    /// The next piece of each worker's run, a cache line apart.
    private let cursors: UnsafeMutablePointer<Atomic<Int>>
    private static let spacing = 64 / MemoryLayout<Int>.stride
    private var units = 0
    private var chunk = 1

    init(workers: Int) {
        self.workers = workers
        cursors = .allocate(capacity: workers * Self.spacing)
        for index in 0..<workers * Self.spacing { (cursors + index).initialize(to: Atomic(0)) }
    }

    deinit {
        cursors.deinitialize(count: workers * Self.spacing)
        cursors.deallocate()
    }

    /// Starts over with `units` pieces, to be taken `chunk` at a time. Called while no worker takes any.
    mutating func reset(_ units: Int, chunk: Int) {
        self.units = units
        self.chunk = chunk
        for worker in 0..<workers {
            cursors[worker * Self.spacing].store(run(worker).lowerBound, ordering: .relaxed)
        }
    }

    private func run(_ worker: Int) -> Range<Int> { run(worker, of: units) }

    /// The pieces of `units` that are `worker`'s own, in whole pairs: the wide kernels take two at a time.
    func run(_ worker: Int, of units: Int) -> Range<Int> {
        let pairs = (units + 1) / 2
        return min(
            pairs * worker / workers * 2, units)..<min(pairs * (worker + 1) / workers * 2, units)
    }

    /// The next pieces for `worker` to compute, or `nil` when none are left anywhere.
    func next(_ worker: Int) -> Range<Int>? {
        for distance in 0..<workers {
            let owner = (worker + distance) % workers
            let end = run(owner).upperBound
            let cursor = owner * Self.spacing
            guard cursors[cursor].load(ordering: .relaxed) < end else { continue }
            let begin = cursors[cursor].wrappingAdd(chunk, ordering: .relaxed).oldValue
            if begin < end { return begin..<min(begin + chunk, end) }
        }
        return nil
    }
}
