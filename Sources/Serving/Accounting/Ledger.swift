// SPDX-License-Identifier: Apache-2.0

import CLinux
import RPC
import Synchronization

/// What is known of one request, for status, cancelling and the log. Any thread may read it.
final class RequestRecord: Sendable {
    enum Phase: UInt8 {
        case queued, prefill, decode
    }

    let id: String
    let method: String
    let model: String
    let peer: Peer
    let promptTokens: Int
    /// CLOCK_MONOTONIC, nanoseconds.
    let received: UInt64
    private let phaseValue = Atomic<UInt8>(0)
    private let completionValue = Atomic<Int>(0)
    private let cachedValue = Atomic<Int>(0)
    private let sessionValue = Atomic<Int>(-1)
    private let stalledValue = Atomic<Bool>(false)
    private let onDiskValue = Atomic<Bool>(false)
    private let readValue = Atomic<Int>(0)
    private let preemptionsValue = Atomic<Int>(0)
    private let decodingValue = Atomic<UInt64>(0)

    init(id: String, call: Call, model: String, promptTokens: Int) {
        self.id = id
        method = call.method
        self.model = model
        peer = call.peer
        self.promptTokens = promptTokens
        received = call.received
    }

    /// Whose shares it counts against.
    var account: Account { peer.account }

    var phase: Phase {
        get { Phase(rawValue: phaseValue.load(ordering: .relaxed)) ?? .queued }
        set { phaseValue.store(newValue.rawValue, ordering: .relaxed) }
    }

    /// Its reader is behind.
    var isStalled: Bool {
        get { stalledValue.load(ordering: .relaxed) }
        set { stalledValue.store(newValue, ordering: .relaxed) }
    }

    /// What it has left of its session is on disk.
    var isSessionOnDisk: Bool {
        get { onDiskValue.load(ordering: .relaxed) }
        set { onDiskValue.store(newValue, ordering: .relaxed) }
    }

    var completionTokens: Int {
        get { completionValue.load(ordering: .relaxed) }
        set { completionValue.store(newValue, ordering: .relaxed) }
    }

    /// Prompt tokens that have been computed.
    var readTokens: Int {
        get { readValue.load(ordering: .relaxed) }
        set { readValue.store(newValue, ordering: .relaxed) }
    }

    /// Prompt tokens that need not be computed.
    var cachedTokens: Int {
        get { cachedValue.load(ordering: .relaxed) }
        set { cachedValue.store(newValue, ordering: .relaxed) }
    }

    /// Times one of its sequences was preempted.
    var preemptions: Int {
        get { preemptionsValue.load(ordering: .relaxed) }
        set { preemptionsValue.store(newValue, ordering: .relaxed) }
    }

    /// When the first token of the answer came; 0 before. CLOCK_MONOTONIC, nanoseconds.
    var decodingSince: UInt64 {
        get { decodingValue.load(ordering: .relaxed) }
        set { decodingValue.store(newValue, ordering: .relaxed) }
    }

    /// Tokens of its session after it; `nil` without a session.
    var sessionTokens: Int? {
        get {
            let value = sessionValue.load(ordering: .relaxed)
            return value < 0 ? nil : value
        }
        set { sessionValue.store(newValue ?? -1, ordering: .relaxed) }
    }

    var status: RequestStatus {
        var status = RequestStatus()
        status.requestID = id
        status.method = method
        status.model = model
        status.uid = peer.uid
        status.pid = peer.pid
        status.phase = "\(phase)"
        status.promptTokens = UInt32(clamping: promptTokens)
        status.completionTokens = UInt32(clamping: completionTokens)
        let now = cl_monotonic_nanoseconds()
        status.age = now &- received
        status.cachedTokens = UInt32(clamping: cachedTokens)
        status.readTokens = UInt32(clamping: cachedTokens + readTokens)
        status.decode = decodingSince == 0 ? 0 : now &- min(now, decodingSince)
        status.preemptions = UInt32(clamping: preemptions)
        return status
    }
}

extension RequestRecord {
    /// A finished request as a line of the log: who asked which model, why it ended, its tokens and its speed.
    ///
    /// - Parameter decoding: nanoseconds of decoding.
    func line(_ reason: String, decoding: UInt64) -> String {
        var line =
            "\(method) \(id) of user \(peer.uid), model \(model): \(reason), \(promptTokens) + \(completionTokens) tokens"
        if completionTokens > 1, decoding > 0 {
            // The first token comes with the prompt.
            line += ", \(Int(Double(completionTokens - 1) * 1e9 / Double(decoding))) tokens/s"
        }
        return line
    }
}

/// The requests that are open, and how many there have been. Admission is counting.
final class Ledger: Sendable {
    struct Totals: Sendable {
        var finished: UInt64 = 0
        var refused: UInt64 = 0
        var promptTokens: UInt64 = 0
        var completionTokens: UInt64 = 0
        var cachedTokens: UInt64 = 0
        var preemptions: UInt64 = 0

        static func + (a: Totals, b: Totals) -> Totals {
            Totals(
                finished: a.finished + b.finished, refused: a.refused + b.refused,
                promptTokens: a.promptTokens + b.promptTokens,
                completionTokens: a.completionTokens + b.completionTokens,
                cachedTokens: a.cachedTokens + b.cachedTokens,
                preemptions: a.preemptions + b.preemptions)
        }
    }

    private struct State {
        var open: [String: RequestRecord] = [:]
        var limits: RequestLimits
        /// Of each account that has ever called.
        var totals: [Account: Totals] = [:]
        var prefixes = PrefixCache.Stats()
        var onChange: (@Sendable () -> Void)?
    }

    private let state: Mutex<State>
    private let clock: @Sendable () -> UInt64

    /// - Parameter clock: CLOCK_MONOTONIC in nanoseconds.
    init(
        _ configuration: ServingConfiguration,
        clock: @escaping @Sendable () -> UInt64 = { cl_monotonic_nanoseconds() }
    ) {
        self.clock = clock
        state = Mutex(State(limits: RequestLimits(configuration)))
    }

    /// Calls `handler` each time a request is let in, leaves the queue or is over. On any thread: be quick.
    func onChange(_ handler: @escaping @Sendable () -> Void) {
        state.withLock { $0.onChange = handler }
    }

    private func changed() { state.withLock { $0.onChange }?() }

    /// Lets a request into the queue, or says why not.
    ///
    /// - Returns: how many requests get a slot before it.
    func admit(_ record: RequestRecord) throws(RPCError) -> Int {
        let now = clock()
        let result: Result<Int, RPCError> = state.withLock { state in
            do throws(RPCError) {
                let position = try state.limits.admit(
                    record.account, promptTokens: record.promptTokens, now: now)
                state.open[record.id] = record
                return .success(position)
            } catch {
                state.totals[record.account, default: Totals()].refused += 1
                return .failure(error)
            }
        }
        let position = try result.get()
        changed()
        return position
    }

    /// So many slots are taken.
    func occupy(_ slots: Int) {
        let isNews = state.withLock { state in
            defer { state.limits.occupied = slots }
            return state.limits.occupied != slots
        }
        if isNews { changed() }
    }

    /// The request has left the queue, for a slot or for good.
    func leaveQueue(_ record: RequestRecord) {
        state.withLock { $0.limits.leaveQueue(record.account) }
        changed()
    }

    /// Tokens of answers have been computed, so many for each account: they count against its rate from now on, also while their
    /// answers go on.
    func spend(_ tokens: [Account: Int]) {
        let now = clock()
        state.withLock { state in
            for (account, count) in tokens {
                state.limits.spend(account, tokens: count, now: now)
            }
        }
    }

    /// The request is over.
    ///
    /// - Returns: false if it was already.
    func finish(_ record: RequestRecord) -> Bool {
        defer { changed() }
        return state.withLock { state in
            guard state.open.removeValue(forKey: record.id) != nil else { return false }
            let now = Totals(
                finished: 1, promptTokens: UInt64(record.promptTokens),
                completionTokens: UInt64(record.completionTokens),
                cachedTokens: UInt64(record.cachedTokens),
                preemptions: UInt64(record.preemptions))
            state.totals[record.account, default: Totals()] =
                state.totals[record.account, default: Totals()] + now
            let end = clock()
            state.limits.finish(
                record.account, promptTokens: record.promptTokens,
                took: end &- min(end, record.received))
            return true
        }
    }

    /// The states of prefixes, as the decode thread last told.
    var prefixes: PrefixCache.Stats {
        get { state.withLock { $0.prefixes } }
        set { state.withLock { $0.prefixes = newValue } }
    }

    func find(_ id: String) -> RequestRecord? { state.withLock { $0.open[id] } }

    /// Slots that are taken, and requests that wait for their first one.
    var load: (active: Int, queued: Int) {
        state.withLock { ($0.limits.occupied, $0.limits.queued) }
    }

    /// The open requests, oldest first.
    var open: [RequestRecord] {
        state.withLock { state in state.open.values.sorted { $0.received < $1.received } }
    }

    /// What there has been, of those accounts that `mayBeSeen` is true of.
    func totals(where mayBeSeen: (Account) -> Bool) -> Totals {
        let totals = state.withLock { $0.totals }
        return totals.filter { mayBeSeen($0.key) }.values.reduce(Totals(), +)
    }
}
