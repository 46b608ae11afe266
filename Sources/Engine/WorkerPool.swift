// SPDX-License-Identifier: Apache-2.0
//
// A token needs some 100 to 130 parallel regions of 5 to 200 µs, so a region must cost well under a microsecond, and a
// worker that the system has set aside must not hold up the others. A region is a word: its number, whether it is open, and
// how many workers have joined. The caller opens it, works, and closes it; workers that come in time join, take shares of
// the work until none are left, and leave; the caller waits only for those that joined. Before it opens, a region may be
// prepared: workers then read ahead into the weights they are about to need, without having joined. Workers spin while a
// token is being computed and park between requests: an idle pool uses no processor.

import CKernels
import CLinux
import Glibc
import Synchronization

/// A fixed set of threads that work on one parallel region at a time.
///
/// The caller is worker 0. Only one thread may call at a time.
package final class WorkerPool: Sendable {
    /// A region's body: its context and the worker's number, 0 ..< count.
    package typealias Body = @convention(c) (UnsafeMutableRawPointer, Int) -> Void

    /// Workers, the caller included.
    package let count: Int
    private let shared: Shared

    private let isPinned: Bool

    /// - Parameters:
    ///   - threads: how many workers; `nil` asks the affinity mask and the cgroup.
    ///   - pinned: whether each keeps to a processor of its own; no effect where the system refuses that.
    package init(threads: Int? = nil, pinned: Bool = false) {
        count = max(1, threads ?? CPUBudget.threads())
        isPinned = pinned
        shared = Shared(workers: count)
        for number in 1..<max(1, count) { shared.start(worker: number, pinned: pinned) }
    }

    /// Keeps the calling thread, worker 0, to its processor if the pool is pinned.
    ///
    /// - Returns: why the system refuses that, and so for the other workers; `nil` if all is well.
    @discardableResult
    package func pinCaller() -> String? { isPinned ? CPUBudget.pin(worker: 0) : nil }

    deinit { shared.stop(workers: count - 1) }

    /// Runs `body` on the caller and on every worker that comes in time; whoever runs it takes work until none is left.
    ///
    /// `body` must be right if only the caller runs it.
    package func share(_ context: UnsafeMutableRawPointer, _ body: Body) {
        guard count > 1 else { return body(context, 0) }
        shared.open(context, body)
        body(context, 0)
        shared.close()
    }

    /// Announces that `share` will be called soon, and lets the workers bring into their caches what they will need then.
    ///
    /// - Parameter ahead: where each worker's data begins; the pointer is never read through, only prefetched.
    package func prepare(_ ahead: (Int) -> UnsafePointer<UInt8>?) {
        guard count > 1 else { return }
        shared.prepare(ahead)
    }

    /// Runs `body` exactly once on every worker.
    package func run(_ context: UnsafeMutableRawPointer, _ body: Body) {
        guard count > 1 else { return body(context, 0) }
        shared.open(context, body)
        body(context, 0)
        shared.close(after: UInt32(count - 1))
    }
}

/// What the workers and their caller share. Atomics stand on cache lines of their own.
private final class Shared: @unchecked Sendable {
    /// The region: number << 16 | closed << 15 | being prepared << 14 | workers that have joined.
    private let region = Atomic<UInt64>(Shared.closed)
    private let padding0 = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    /// Workers that have left the region.
    private let left = Atomic<UInt32>(0)
    private let padding1 = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    private let sleepers = Atomic<UInt32>(0)
    private let ended = Atomic<UInt32>(0)
    /// Where each worker may read ahead: addresses, a cache line apart.
    private let ahead: UnsafeMutablePointer<Atomic<UInt>>
    private let workers: Int
    // Written by the caller while no region is open.
    private var body: WorkerPool.Body?
    private var context: UnsafeMutableRawPointer?
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    private static let closed: UInt64 = 1 << 15
    private static let preparing: UInt64 = 1 << 14
    private static let joined: UInt64 = preparing - 1
    /// Turns of a spin loop before a worker parks: some 300 µs, longer than the gap between two tokens.
    private static let spins = 8_000
    /// Turns after which somebody else may have the processor for a moment: perhaps the one that is waited for.
    private static let turnsBeforeYield = 128
    /// How far a worker reads ahead: half a second-level cache, a kilobyte a turn.
    private static let aheadTurns = 512

    init(workers: Int) {
        self.workers = workers
        ahead = .allocate(capacity: workers * 8)
        for index in 0..<workers * 8 { (ahead + index).initialize(to: Atomic(0)) }
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        ahead.deinitialize(count: workers * 8)
        ahead.deallocate()
        condition.deallocate()
        mutex.deallocate()
    }

    // MARK: The caller

    func prepare(_ hint: (Int) -> UnsafePointer<UInt8>?) {
        for worker in 1..<workers {
            ahead[worker * 8].store(UInt(bitPattern: hint(worker)), ordering: .relaxed)
        }
        announce(Self.preparing)
    }

    func open(_ context: UnsafeMutableRawPointer, _ body: WorkerPool.Body) {
        self.body = body
        self.context = context
        left.store(0, ordering: .relaxed)
        announce(0)
    }

    /// Begins the next region, or opens the one that was prepared.
    ///
    /// Sequentially consistent, as is the sleepers' check: either they see it or we see them.
    private func announce(_ flags: UInt64) {
        let word = region.load(ordering: .relaxed)
        let number = word & Self.preparing != 0 ? word >> 16 : word >> 16 &+ 1
        region.store(number << 16 | flags, ordering: .sequentiallyConsistent)
        guard sleepers.load(ordering: .sequentiallyConsistent) > 0 else { return }
        pthread_mutex_lock(mutex)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Closes the region and waits for the workers that have joined; with `after`, first for that many to join.
    func close(after wanted: UInt32 = 0) {
        if wanted > 0 {
            spin { region.load(ordering: .relaxed) & Self.joined >= UInt64(wanted) }
        }
        let joined =
            region.bitwiseOr(Self.closed, ordering: .acquiringAndReleasing).oldValue & Self.joined
        spin { left.load(ordering: .acquiring) >= UInt32(joined) }
    }

    /// Waits for something that other threads are busy doing; gives them the processor if it takes long.
    private func spin(until done: () -> Bool) {
        var turn = 0
        while !done() {
            turn += 1
            if turn % Self.turnsBeforeYield == 0 { sched_yield() } else { cl_pause() }
        }
    }

    func stop(workers: Int) {
        guard workers > 0 else { return }
        body = nil
        context = nil
        left.store(0, ordering: .relaxed)
        announce(0)
        // The last worker drops its reference to `self` by itself; nothing of the caller's is touched after this.
        spin { ended.load(ordering: .acquiring) == UInt32(workers) }
    }

    // MARK: The workers

    func start(worker: Int, pinned: Bool) {
        startThread(name: "mmf-worker-\(worker)") { [self] in
            if pinned { CPUBudget.pin(worker: worker) }
            var seen: UInt64 = 0
            while true {
                seen = next(after: seen, worker)
                guard join(seen) else { continue }
                guard let body, let context else { break }
                body(context, worker)
                left.wrappingAdd(1, ordering: .releasing)
            }
            ended.wrappingAdd(1, ordering: .releasing)
        }
    }

    /// Joins region `number` unless it is closed already.
    private func join(_ number: UInt64) -> Bool {
        var word = region.load(ordering: .relaxed)
        while word >> 16 == number, word & Self.closed == 0 {
            let (exchanged, now) = region.weakCompareExchange(
                expected: word, desired: word + 1, ordering: .acquiringAndReleasing)
            if exchanged { return true }
            word = now
        }
        return false
    }

    /// Waits for a region after `seen` to open: spinning first, reading ahead while it is prepared, then asleep.
    private func next(after seen: UInt64, _ worker: Int) -> UInt64 {
        var turns = 0
        var prefetched = 0
        while turns < Self.spins {
            let word = region.load(ordering: .acquiring)
            if word >> 16 != seen {
                if word & Self.preparing == 0 { return word >> 16 }
                if prefetched < Self.aheadTurns, readAhead(prefetched, worker) {
                    prefetched += 1
                    continue
                }
            }
            turns += 1
            if turns % Self.turnsBeforeYield == 0 { sched_yield() } else { cl_pause() }
        }
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
        defer { sleepers.wrappingSubtract(1, ordering: .relaxed) }
        while true {
            let word = region.load(ordering: .sequentiallyConsistent)
            if word >> 16 != seen, word & Self.preparing == 0 { return word >> 16 }
            pthread_cond_wait(condition, mutex)
        }
    }

    /// Prefetches the worker's `turn`-th kilobyte.
    private func readAhead(_ turn: Int, _ worker: Int) -> Bool {
        let address = ahead[worker * 8].load(ordering: .relaxed)
        guard let begin = UnsafePointer<UInt8>(bitPattern: address) else { return false }
        ck_read_ahead(begin + turn * 1024, 1024)
        return true
    }
}

/// Starts a detached thread that carries `name` (15 bytes at most) and blocks all signals, so that they go to the thread that waits for them.
package func startThread(name: String, _ body: @escaping @Sendable () -> Void) {
    final class Box {
        let name: String
        let body: @Sendable () -> Void
        init(_ name: String, _ body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    // Signals go to the thread that waits for them, never to this one: it inherits a mask that blocks them all.
    withUnsafeTemporaryAllocation(of: sigset_t.self, capacity: 2) { masks in
        let (all, before) = (masks.baseAddress!, masks.baseAddress! + 1)
        sigfillset(all)
        pthread_sigmask(SIG_BLOCK, all, before)
        defer { pthread_sigmask(SIG_SETMASK, before, nil) }
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(Box(name, body)).toOpaque()
        let error = pthread_create(
            &thread, nil,
            { argument in
                let box = Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue()
                cl_name_thread(box.name)
                box.body()
                return nil
            }, argument)
        precondition(error == 0, "the system refuses to start a thread: error \(error)")
        pthread_detach(thread)
    }
}
