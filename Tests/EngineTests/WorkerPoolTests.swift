// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Synchronization
import Testing

@testable import Engine

@Suite("The worker pool")
struct WorkerPoolTests {
    private final class Tally {
        var runs: [UnsafeMutablePointer<Int>]
        init(_ workers: Int) {
            runs = (0..<workers).map { _ in
                let count = UnsafeMutablePointer<Int>.allocate(capacity: 16)
                count.initialize(repeating: 0, count: 16)
                return count
            }
        }
        deinit { for count in runs { count.deallocate() } }
    }

    private func run(_ regions: Int, on pool: WorkerPool) -> [Int] {
        let tally = Tally(pool.count)
        for _ in 0..<regions {
            pool.run(Unmanaged.passUnretained(tally).toOpaque()) { context, worker in
                Unmanaged<Tally>.fromOpaque(context).takeUnretainedValue().runs[worker].pointee += 1
            }
        }
        return tally.runs.map(\.pointee)
    }

    @Test(
        "every worker runs every region once, more workers than processors included",
        arguments: [1, 2, 3, 8])
    func everyRegion(_ workers: Int) {
        #expect(
            run(2_000, on: WorkerPool(threads: workers)) == .init(repeating: 2_000, count: workers))
    }

    @Test("workers that have gone to sleep wake up again")
    func sleepers() {
        let pool = WorkerPool(threads: 3)
        for _ in 0..<5 {
            #expect(run(10, on: pool) == [10, 10, 10])
            usleep(20_000)
        }
    }

    /// The processors each worker may run on, the caller's first.
    private func processors(of pool: WorkerPool) -> [[Int32]] {
        final class Found {
            let lists: UnsafeMutablePointer<[Int32]>
            init(_ workers: Int) {
                lists = .allocate(capacity: workers)
                lists.initialize(repeating: [], count: workers)
            }
        }
        let found = Found(pool.count)
        defer {
            found.lists.deinitialize(count: pool.count)
            found.lists.deallocate()
        }
        pool.run(Unmanaged.passUnretained(found).toOpaque()) { context, worker in
            var numbers = [Int32](repeating: 0, count: 1024)
            let count = Int(cl_allowed_processors(&numbers, 1024))
            Unmanaged<Found>.fromOpaque(context).takeUnretainedValue().lists[worker] =
                Array(numbers.prefix(count))
        }
        return (0..<pool.count).map { found.lists[$0] }
    }

    @Test("pinned workers keep to one processor each, in turn; others go where the caller may go")
    func pinned() {
        let free = processors(of: WorkerPool(threads: 4))
        #expect(free.allSatisfy { $0 == free[0] })
        let all = free[0]
        let pinned = processors(of: WorkerPool(threads: 4, pinned: true))
        #expect(pinned == [all] + (1..<4).map { [all[$0 % all.count]] })
    }

    @Test("a pool that is let go ends its threads")
    func ends() {
        for _ in 0..<50 { _ = run(1, on: WorkerPool(threads: 4)) }
    }

    @Test(
        "the cgroup's quota is rounded up to whole processors",
        arguments: [
            ("max 100000", nil), ("150000 100000", 2), ("100000 100000", 1), ("5000 100000", 1),
            ("x", nil),
        ])
    func quota(_ text: String, _ expected: Int?) {
        #expect(CPUBudget.quota(cpuMax: text) == expected)
    }
}

@Suite("Work in pieces")
struct WorkerPoolPiecesTests {
    @Test("each piece is done once, whoever does it", arguments: [1, 2, 3, 8], [0, 1, 2, 7, 300])
    func pieces(_ workers: Int, _ count: Int) {
        let pool = WorkerPool(threads: workers)
        let done = (0..<count).map { _ in Counter() }
        for _ in 0..<20 {
            pool.forEach(count) { done[$0].value.wrappingAdd(1, ordering: .relaxed) }
        }
        #expect(done.allSatisfy { $0.value.load(ordering: .relaxed) == 20 })
    }

    private final class Counter {
        let value = Atomic(0)
    }
}
