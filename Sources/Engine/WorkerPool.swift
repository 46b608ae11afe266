// SPDX-License-Identifier: Apache-2.0
//
// A token needs some 130 to 200 parallel regions of 5 to 200 µs, so a region must cost well under a microsecond. One
// generation counter starts a region, one arrival counter ends it. Workers spin while a token is being computed and
// park between requests: an idle pool uses no CPU. A waiter that has spun for long yields, so that an oversubscribed
// machine still makes progress, and then sleeps.

import CLinux
import Glibc
import Synchronization

/// A fixed set of threads that run one parallel region at a time.
///
/// The caller of `run` is worker 0. Only one thread may call `run` at a time.
package final class WorkerPool: Sendable {
    /// A region's body: its context and the worker's number, 0 ..< count.
    package typealias Body = @convention(c) (UnsafeMutableRawPointer, Int) -> Void

    /// Workers, the caller of `run` included.
    package let count: Int
    private let shared: Shared

    /// - Parameter threads: how many workers; `nil` asks the affinity mask and the cgroup.
    package init(threads: Int? = nil) {
        count = max(1, threads ?? CPUBudget.threads())
        shared = Shared()
        for number in 1..<max(1, count) {
            shared.start(worker: number, oversubscribed: count > CPUBudget.threads())
        }
    }

    deinit { shared.stop(workers: count - 1) }

    /// Runs `body` once per worker and returns when all have returned.
    package func run(_ context: UnsafeMutableRawPointer, _ body: Body) {
        guard count > 1 else { return body(context, 0) }
        shared.begin(context, body)
        body(context, 0)
        shared.awaitArrivals(UInt32(count - 1))
    }
}

/// What the workers and their caller share. Atomics stand on cache lines of their own.
private final class Shared: @unchecked Sendable {
    private let generation = Atomic<UInt32>(0)
    private let padding0 = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    private let arrived = Atomic<UInt32>(0)
    private let padding1 = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    private let sleepers = Atomic<UInt32>(0)
    private let ended = Atomic<UInt32>(0)
    // Written by the caller before `generation` is raised, read by the workers after.
    private var body: WorkerPool.Body?
    private var context: UnsafeMutableRawPointer?
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    func begin(_ context: UnsafeMutableRawPointer, _ body: WorkerPool.Body) {
        self.body = body
        self.context = context
        arrived.store(0, ordering: .relaxed)
        raiseGeneration()
    }

    private func raiseGeneration() {
        // Sequentially consistent, as is the sleepers' check: either they see the new generation or we see them.
        generation.wrappingAdd(1, ordering: .sequentiallyConsistent)
        wakeSleepers()
    }

    private func wakeSleepers() {
        guard sleepers.load(ordering: .sequentiallyConsistent) > 0 else { return }
        pthread_mutex_lock(mutex)
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    func awaitArrivals(_ wanted: UInt32) {
        wait(spins: 200_000) { $0.arrived.load(ordering: .acquiring) == wanted }
    }

    func start(worker: Int, oversubscribed: Bool) {
        let spins = oversubscribed ? 100 : 20_000
        startThread(name: "mmf-worker-\(worker)") { [self] in
            var seen: UInt32 = 0
            while true {
                wait(spins: spins) { $0.generation.load(ordering: .acquiring) != seen }
                seen &+= 1
                guard let body, let context else { break }
                body(context, worker)
                arrived.wrappingAdd(1, ordering: .sequentiallyConsistent)
                wakeSleepers()
            }
            ended.wrappingAdd(1, ordering: .releasing)
        }
    }

    func stop(workers: Int) {
        guard workers > 0 else { return }
        body = nil
        context = nil
        raiseGeneration()
        // The last worker drops its reference to `self` by itself; nothing of the caller's is touched after this.
        while ended.load(ordering: .acquiring) < UInt32(workers) { sched_yield() }
    }

    /// Spins, then yields, then sleeps until `done`.
    @inline(__always)
    private func wait(spins: Int, _ done: (Shared) -> Bool) {
        for turn in 0..<spins {
            if done(self) { return }
            if turn & 1023 == 1023 { sched_yield() } else { cl_pause() }
        }
        pthread_mutex_lock(mutex)
        sleepers.wrappingAdd(1, ordering: .sequentiallyConsistent)
        while !done(self) { pthread_cond_wait(condition, mutex) }
        sleepers.wrappingSubtract(1, ordering: .relaxed)
        pthread_mutex_unlock(mutex)
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
