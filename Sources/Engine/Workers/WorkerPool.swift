// SPDX-License-Identifier: Apache-2.0
//
// A token needs some 100 to 130 parallel regions of 5 to 200 µs, so a region must cost well under a microsecond, and a
// worker that the system has set aside must not hold up the others. A region is a word: its number, whether it is open, and
// how many workers have joined. The caller opens it, works, and closes it; workers that come in time join, take shares of
// the work until none are left, and leave; the caller waits only for those that joined. Between two regions workers read
// ahead into the weights they will need next. They spin while a token is being computed and park between requests: an idle
// pool uses no processor.
//
// What a region costs is cache lines on their way from one core to another, some 100 ns each, so there are few of them and
// the caller waits for none that it need not wait for.

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

    /// Says what worker `worker`, the one that calls, will read first in the next region: it reads ahead while it waits.
    ///
    /// - Parameter data: never read through, only prefetched.
    package func readAhead(_ worker: Int, from data: UnsafePointer<UInt8>?) {
        shared.readAhead(worker, from: data)
    }

    /// Runs `body` exactly once on every worker.
    package func run(_ context: UnsafeMutableRawPointer, _ body: Body) {
        guard count > 1 else { return body(context, 0) }
        shared.open(context, body, isAwaited: true)
        body(context, 0)
        shared.close(after: UInt32(count - 1))
    }
}

/// What the workers and their caller share. Atomics stand on cache lines of their own.
private final class Shared: @unchecked Sendable {
    /// The region: number << 16 | closed << 15 | workers that have joined.
    private let region = Atomic<UInt64>(Shared.closed)
    // Written by the caller while no region is open; a worker that has joined has this line.
    @exclusivity(unchecked) private var body: WorkerPool.Body?
    @exclusivity(unchecked) private var context: UnsafeMutableRawPointer?
    private let padding0 = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    /// Workers that have left regions, ever.
    private let left = Atomic<UInt32>(0)
    private let padding1 = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    private let sleepers = Atomic<UInt32>(0)
    private let ended = Atomic<UInt32>(0)
    /// Where each worker reads ahead, a cache line apart. Its own affair.
    private let ahead: UnsafeMutablePointer<UnsafePointer<UInt8>?>
    private let workers: Int
    /// Workers that have joined regions, ever. The caller's own.
    @exclusivity(unchecked) private var everJoined: UInt32 = 0
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    private static let closed: UInt64 = 1 << 15
    private static let joined: UInt64 = closed - 1
    /// Turns of a spin loop before a worker parks: some 300 µs, longer than the gap between two tokens.
    private static let spins = 8_000
    /// Turns after which somebody else may have the processor for a moment: perhaps the one that is waited for.
    private static let turnsBeforeYield = 128
    /// How far a worker reads ahead: half a second-level cache, a kilobyte a turn.
    private static let aheadTurns = 512

    init(workers: Int) {
        self.workers = workers
        ahead = .allocate(capacity: workers * 8)
        ahead.initialize(repeating: nil, count: workers * 8)
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        ahead.deallocate()
        condition.deallocate()
        mutex.deallocate()
    }

    // MARK: The caller

    /// - Parameter isAwaited: whether `close` will wait for workers that have not come of themselves.
    func open(_ context: UnsafeMutableRawPointer, _ body: WorkerPool.Body, isAwaited: Bool = false)
    {
        self.body = body
        self.context = context
        announce(isAwaited: isAwaited)
    }

    /// Begins the next region.
    private func announce(isAwaited: Bool) {
        let number = region.load(ordering: .relaxed) >> 16 &+ 1
        if isAwaited {
            // As is the sleepers' check: either they see the region or we see them.
            region.store(number << 16, ordering: .sequentiallyConsistent)
        } else {
            // Not waiting until the others see it, we may miss one that falls asleep just now; the next region wakes it.
            region.store(number << 16, ordering: .releasing)
        }
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
        everJoined &+= UInt32(joined)
        spin { left.load(ordering: .acquiring) == everJoined }
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
        announce(isAwaited: true)
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

    func readAhead(_ worker: Int, from data: UnsafePointer<UInt8>?) { ahead[worker * 8] = data }

    /// Waits for a region after `seen` to open: reading ahead and spinning first, then asleep.
    private func next(after seen: UInt64, _ worker: Int) -> UInt64 {
        let data = ahead[worker * 8]
        for turn in 0..<Self.spins {
            let word = region.load(ordering: .acquiring)
            if word >> 16 != seen { return word >> 16 }
            if let data, turn < Self.aheadTurns {
                ck_read_ahead(data + turn * 1024, 1024)
            } else if turn % Self.turnsBeforeYield == 0 {
                sched_yield()
            } else {
                cl_pause()
            }
        }
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
        defer { sleepers.wrappingSubtract(1, ordering: .relaxed) }
        while true {
            let word = region.load(ordering: .sequentiallyConsistent)
            if word >> 16 != seen { return word >> 16 }
            pthread_cond_wait(condition, mutex)
        }
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
    // Signals go to the thread that waits for them, never to this one: it inherits a mask that blocks them all, but for those
    // that a thread raises itself. A blocked bus error would end the process past its handler.
    withUnsafeTemporaryAllocation(of: sigset_t.self, capacity: 2) { masks in
        let (all, before) = (masks.baseAddress!, masks.baseAddress! + 1)
        sigfillset(all)
        for own in [SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP] { sigdelset(all, own) }
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
