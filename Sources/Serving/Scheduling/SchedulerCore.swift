// SPDX-License-Identifier: Apache-2.0
//
// Who runs when, as a value: no thread, no clock, no model. `plan` says what to compute next, `apply` takes what came of it, and
// what happens outside comes by the id of the request it is about. No turn looks at requests that wait: an event costs
// O(log n), a turn O(slots).
//
// Free slots go to the user with the fewest, first come, first served; of one user's requests the first. When all are taken and
// a user waits who has none, one is preempted (`victim`), and goes on later exactly as if nothing had been: one that waits for
// its reader, or of a user with the most slots, or, where each has one, who has had it for `slotTime`; so users take turns. Answers do not depend on who shares a batch, so a turn may be cut any way that is fair and fast: beside
// answers that are being written, prompts get as many rows as fit into a time limit (`TurnDraft`), shared out by account.

import DequeModule
import Engine
import ModelStore
import RPC

struct SchedulerCore: ~Copyable {
    /// What to compute, and what has ended without it.
    struct Turn {
        /// Requests that have got their first slot.
        var begun: [Request] = []
        var ended: [Ended] = []
        var batches: [Batch] = []
        /// Bytes of sessions' states that may still be read in it.
        var bytesToRead: Int
    }

    struct Ended {
        let request: Request
        let ending: Request.Ending
    }

    /// Rows of one model: of each sequence its next `count`.
    struct Batch {
        let model: ModelID
        var parts: [(sequence: Sequence, count: Int)]
    }

    /// A user that has something here.
    private struct User {
        /// Slots that are its own.
        var used = 0
        /// Since when it has had one or more. CLOCK_MONOTONIC, nanoseconds.
        var heldSince: UInt64 = 0
        /// Its place among the users that have none, while it is one of them and waits; 0 otherwise.
        var joined = 0
        /// Requests with sequences that wait, by their place.
        var waiting = PriorityMap<String, Int>()
    }

    /// A user's place among those that wait: fewest slots first. Of those that have none the one that has waited longest, so that
    /// they take turns; of the others the one with the earliest request.
    private struct Claim: Comparable {
        let used: Int
        let place: Int

        static func < (a: Claim, b: Claim) -> Bool { (a.used, a.place) < (b.used, b.place) }
    }

    /// Prompt rows of the slowest model that an account may have read before it is the next one's turn.
    private static let quantum = 16
    /// Models whose costs are kept, beyond those in use.
    private static let mostCosts = 16

    let configuration: ServingConfiguration
    let pool: SlotPool
    var keyValues: KeyValueQueue
    /// States of prompts and answers that have been.
    var prefixes: PrefixCache
    /// Turns of sessions: the first one runs or is in the queue, the others wait for it.
    var sessionTurns: [String: Deque<Request>] = [:]
    /// Requests whose sessions' states are being read; they take turns.
    private var reading: Deque<Request> = []
    /// Requests that are not answered yet.
    private var open: [String: Request] = [:]
    /// Requests that are answered, but not read.
    private var unread: [String: Request] = [:]
    private var users: [Account: User] = [:]
    /// Users with requests that wait.
    private var claims = PriorityMap<Account, Claim>()
    /// Sequences in slots, oldest first.
    private var resident: [Sequence] = []
    private var deadlines = PriorityMap<String, UInt64>()
    /// When to look at a reader that is behind.
    private var stalls = PriorityMap<String, UInt64>()
    /// How long batches of each model take.
    private var costs: [ModelID: TurnCost] = [:]
    /// When the last batch ended, or the turn began. CLOCK_MONOTONIC, nanoseconds.
    private var computedUntil: UInt64 = 0
    /// Whose prompt is read next.
    private var readingRing = AccountRing()
    private var reads = 0
    private var joins = 0
    private var arrivals = 0
    private var preemptions = 0
    /// Requests and sequences looked at so far: all the work there was, which tests hold against what happened.
    private(set) var looks = 0

    init(_ configuration: ServingConfiguration, states: any SlotStates) {
        self.configuration = configuration
        pool = SlotPool(configuration.slots, taps: configuration.tapSlots, states: states)
        keyValues = KeyValueQueue(capacity: configuration.keyValueBytes)
        prefixes = PrefixCache(capacity: configuration.prefixBytes)
    }

    /// Slots that are taken.
    var occupied: Int { resident.count }

    /// When there is something to do, if nothing happens before: 0 for now, `nil` for never. CLOCK_MONOTONIC, nanoseconds.
    var wakeTime: UInt64? {
        if !reading.isEmpty || resident.contains(where: { !$0.request.isStalled }) { return 0 }
        if let claim = claims.first?.priority,
            resident.count < pool.count || claim.used == 0
        {
            return 0
        }
        return [deadlines.first?.priority, stalls.first?.priority].compactMap { $0 }.min()
    }

    // MARK: What happens outside

    mutating func submit(_ request: Request) {
        arrivals += 1
        request.arrival = arrivals
        open[request.id] = request
        deadlines.set(request.id, request.deadline)
        if isTurn(request) { enqueue(request) }
    }

    /// Somebody who may has cancelled a request.
    mutating func cancel(_ id: String) -> Ended? { open[id].map { close($0, .cancelled) } }

    /// The caller of a request has gone away.
    mutating func gone(_ id: String) -> Ended? {
        if unread.removeValue(forKey: id) != nil { stalls.remove(id) }
        return cancel(id)
    }

    /// The reader of a request's answer has caught up.
    mutating func drained(_ id: String) {
        guard let request = open[id] ?? unread[id], request.consumer.stalledSince == 0 else {
            return
        }
        request.isStalled = false
        unread[id] = nil
        stalls.remove(id)
        if open[id] === request, request.hasBegun { enqueue(request) }
    }

    /// Ends all requests, or all of one model.
    mutating func endAll(of model: ModelID? = nil, _ ending: Request.Ending) -> [Ended] {
        open.values.filter { model == nil || $0.model == model }
            .sorted { $0.arrival < $1.arrival }.map { close($0, ending) }
    }

    /// Watches the reader of an answer that is complete, if it is behind.
    mutating func watchReader(of request: Request) {
        let since = request.consumer.stalledSince
        guard since != 0 else { return }
        unread[request.id] = request
        stalls.set(request.id, since &+ configuration.slowReaderTimeout)
    }

    // MARK: A turn

    mutating func plan(now: UInt64) -> Turn {
        var turn = Turn(bytesToRead: configuration.stateBytesPerTurn)
        expire(now, &turn)
        readStates(&turn)
        admit(now, &turn)
        batch(&turn)
        computedUntil = now
        return turn
    }

    /// The turn's batches are computed from now on: what planning took, and reading states above all, is not their time.
    mutating func computes(from now: UInt64) { computedUntil = now }

    private mutating func expire(_ now: UInt64, _ turn: inout Turn) {
        while let (id, time) = stalls.first, time <= now {
            looks += 1
            stalls.remove(id)
            guard let request = open[id] ?? unread[id], request.consumer.stalledSince != 0 else {
                continue
            }
            // It may have read something since.
            let end = request.consumer.stalledSince &+ configuration.slowReaderTimeout
            if end > now {
                stalls.set(id, end)
            } else if unread.removeValue(forKey: id) == nil {
                turn.ended.append(close(request, .slowReader(configuration.slowReaderTimeout)))
            } else {
                turn.ended.append(
                    Ended(
                        request: request, ending: .slowReader(configuration.slowReaderTimeout)))
            }
        }
        while let (id, time) = deadlines.first, time <= now, let request = open[id] {
            looks += 1
            turn.ended.append(close(request, .deadline))
        }
    }

    private mutating func admit(_ now: UInt64, _ turn: inout Turn) {
        while let (user, claim) = claims.first {
            let isFull = resident.count == pool.count
            let victim = isFull && claim.used == 0 ? victim(now) : nil
            guard !isFull || victim != nil, let id = users[user]?.waiting.first?.key,
                let request = open[id]
            else { return }
            guard prepare(request, &turn) else { continue }
            if let victim { preempt(victim) }
            admit(request, now, &turn)
        }
    }

    /// Sets memory aside for a request's next sequence, and then finds where it begins: what waits for memory holds none.
    ///
    /// - Returns: whether it can have a slot; otherwise it is over, its account waits for memory, or its session's state is being read.
    private mutating func prepare(_ request: Request, _ turn: inout Turn) -> Bool {
        do throws(RPCError) {
            try measure(request)
            guard try setMemoryAside(request) else {
                claim(request.account)
                return false
            }
            if try resume(request, &turn) { return true }
            request.isReading = true
            reading.append(request)
            claim(request.account)
            return false
        } catch {
            turn.ended.append(close(request, .refused(error)))
            return false
        }
    }

    /// Reads on in the states of sessions, a part of each in turn: a small one does not wait for a large one.
    private mutating func readStates(_ turn: inout Turn) {
        while turn.bytesToRead > 0, let request = reading.popFirst() {
            let part = min(turn.bytesToRead, SessionStore.partBytes)
            var left = part
            do throws(RPCError) {
                let isOver = try request.waiting.first?.readOn(&left) != false
                turn.bytesToRead -= part - left
                guard isOver else {
                    reading.append(request)
                    continue
                }
                request.isReading = false
                claim(request.account)
            } catch { turn.ended.append(close(request, .refused(error))) }
        }
    }

    /// Who makes room for a user that has no slot: the newest that waits for its reader; else the newest of the user with the
    /// most; else, when each has one, of those that have had theirs for `slotTime` the one that has had it longest.
    private func victim(_ now: UInt64) -> Int? {
        if let stalled = resident.lastIndex(where: { $0.request.isStalled }) { return stalled }
        let owners = resident.map { users[$0.request.account] ?? User() }
        if let victim = Fairness.victim(owners.map(\.used)) { return victim }
        let longest = owners.indices.min { owners[$0].heldSince < owners[$1].heldSince }
        return longest.flatMap {
            owners[$0].heldSince &+ configuration.slotTime <= now ? $0 : nil
        }
    }

    private mutating func admit(_ request: Request, _ now: UInt64, _ turn: inout Turn) {
        guard let sequence = request.waiting.first else { return }
        looks += 1
        do throws(ModelError) { try sequence.enter(pool) } catch {
            let why = RPCError(.resourceExhausted, "\(error)", reason: "NO_MEMORY")
            turn.ended.append(close(request, .refused(why)))
            return
        }
        request.waiting.removeFirst()
        resident.append(sequence)
        let account = request.account
        if users[account, default: User()].used == 0 { users[account]?.heldSince = now }
        users[account]?.used += 1
        enqueue(request)
        guard !request.hasBegun else { return }
        request.started = now
        request.record.phase = .prefill
        turn.begun.append(request)
    }

    /// Takes the slot of the sequence at `index`, which waits before all others of its user. So a user has no more states kept
    /// than there are slots, and those of requests that wait for their readers, which `requestsPerUser` limits.
    private mutating func preempt(_ index: Int) {
        let sequence = resident.remove(at: index)
        let request = sequence.request
        sequence.preempt()
        request.record.preemptions += 1
        request.waiting.prepend(sequence)
        preemptions += 1
        request.preemptedPlace = -preemptions
        users[request.account]?.used -= 1
        enqueue(request)
    }

    private mutating func batch(_ turn: inout Turn) {
        looks += resident.count
        let running = resident.filter { !$0.request.isStalled }
        var draft = TurnDraft(
            running.filter { $0.promptLeft == nil }, costs: costs, configuration)
        readPrompts(running.filter { $0.promptLeft != nil }, &draft)
        for sequence in running {
            let count = sequence.promptLeft == nil ? 1 : draft.reading[ObjectIdentifier(sequence)]
            guard let count else { continue }
            let model = sequence.request.model
            if let index = turn.batches.firstIndex(where: { $0.model == model }) {
                turn.batches[index].parts.append((sequence, count))
            } else {
                turn.batches.append(Batch(model: model, parts: [(sequence, count)]))
            }
        }
        for batch in turn.batches { tap(batch) }
    }

    /// Shares out the turn's prompt rows: by account, at the time they take, and among an account's own prompts by turns.
    private mutating func readPrompts(_ readers: [Sequence], _ draft: inout TurnDraft) {
        guard !readers.isEmpty else { return }
        var pending: [Account: Deque<Sequence>] = [:]
        var prices: [ModelID: Double] = [:]
        for sequence in readers.sorted(by: { $0.lastRead < $1.lastRead }) {
            pending[sequence.request.account, default: []].append(sequence)
            prices[sequence.request.model] = costs[sequence.request.model]?.perRow
        }
        let highest = prices.values.max() ?? 1
        let accounts = readers.map(\.request.account).uniqued
        readingRing.share(among: accounts, quantum: Double(Self.quantum) * highest) {
            account, credit in
            var (spent, isBlocked) = (0.0, false)
            while let sequence = pending[account]?.first {
                let price = prices[sequence.request.model] ?? highest
                let affordable = draft.rows(of: sequence, for: credit - spent, price: price)
                guard affordable > 0 else { return (spent, .more) }
                let left =
                    (sequence.promptLeft ?? 0) - (draft.reading[ObjectIdentifier(sequence)] ?? 0)
                let wanted = draft.allowed(sequence, min(left, affordable))
                guard wanted > 0 else {
                    isBlocked = true
                    pending[account]?.removeFirst()
                    continue
                }
                let (granted, cost) = draft.read(sequence, wanted, price: price)
                spent += cost
                guard granted == wanted else { return (spent, .exhausted) }
                reads += 1
                sequence.lastRead = reads
                pending[account]?.removeFirst()
                if granted < left { pending[account]?.append(sequence) }
            }
            return (spent, isBlocked ? .later : .satisfied)
        }
    }

    /// Learns how long a batch took, which ended at `now`.
    private mutating func learn(_ batch: Batch, _ now: UInt64) {
        defer { computedUntil = now }
        let rows = batch.parts.reduce(0) { $0 + $1.count }
        if costs[batch.model] == nil, costs.count >= Self.mostCosts {
            let used = Set(resident.map(\.request.model))
            costs = costs.filter { used.contains($0.key) }
        }
        costs[batch.model, default: TurnCost()].learn(rows, nanoseconds: now &- computedUntil)
    }

    /// Takes what has come of a batch: a step for each of its parts.
    mutating func apply(_ batch: Batch, _ steps: [Step], now: UInt64) -> [Ended] {
        learn(batch, now)
        var ended: [Ended] = []
        for ((sequence, count), step) in zip(batch.parts, steps) {
            let request = sequence.request
            defer { for tap in sequence.taps { pool.freeTap(tap.slot, of: batch.model) } }
            guard open[request.id] === request else { continue }
            keepTaps(of: sequence, step)
            if let end = apply(step, sequence, count, now) { ended.append(end) }
            let since = request.consumer.stalledSince
            guard since != 0, open[request.id] === request else { continue }
            request.isStalled = true
            enqueue(request)
            stalls.set(request.id, since &+ configuration.slowReaderTimeout)
        }
        return ended
    }

    private mutating func apply(
        _ step: Step, _ sequence: Sequence, _ count: Int, _ now: UInt64
    ) -> Ended? {
        let request = sequence.request
        switch step {
        case .reading: sequence.advance(count, next: nil)
        case .next(let token):
            sequence.advance(count, next: token)
            prefillEnded(request, now)
        case .inputDone:
            request.unfinished -= 1
            if request.unfinished == 0 { return close(request, .complete(nil)) }
            resident.removeAll { $0 === sequence }
            leave(sequence)
            claim(request.account)
        case .over(let reason, let unread):
            prefillEnded(request, now)
            sequence.advance(count, next: unread)
            return close(request, .complete(reason))
        case .closed:
            // Its state has read these rows, whoever reads the answer.
            sequence.advance(count, next: nil)
            return close(request, .cancelled)
        case .unusable(let why): return close(request, .damaged(why))
        case .refused(let error): return close(request, .refused(error))
        }
        return nil
    }

    private func prefillEnded(_ request: Request, _ now: UInt64) {
        guard request.prefilled == 0 else { return }
        request.prefilled = now
        request.record.phase = .decode
        request.record.decodingSince = now
    }

    // MARK: Books

    /// Enters a request into the queue, moves it there, or takes it out if it has nothing left that waits, or waits for its reader.
    mutating func enqueue(_ request: Request) {
        if request.waiting.isEmpty || request.isStalled {
            users[request.account]?.waiting.remove(request.id)
        } else {
            users[request.account, default: User()].waiting.set(request.id, request.place)
        }
        claim(request.account)
    }

    /// Sets a user's place by what it has and what it waits for.
    mutating func claim(_ id: Account) {
        guard var user = users[id] else { return }
        if user.waiting.isEmpty {
            keyValues.forget(id)
            wakeNext()
        }
        if user.used > 0 || user.waiting.isEmpty {
            user.joined = 0
        } else if user.joined == 0 {
            joins += 1
            user.joined = joins
        }
        users[id] = user.used == 0 && user.waiting.isEmpty ? nil : user
        if let first = user.waiting.first, let request = open[first.key], !request.isReading,
            !(keyValues.blocks(id) && request.lacksMemory)
        {
            claims.set(
                id, Claim(used: user.used, place: user.used == 0 ? user.joined : first.priority))
        } else {
            claims.remove(id)
        }
    }

    /// Takes a request out of everything; its slots are free.
    private mutating func close(_ request: Request, _ ending: Request.Ending) -> Ended {
        open[request.id] = nil
        deadlines.remove(request.id)
        stalls.remove(request.id)
        if request.isReading { reading.removeAll { $0 === request } }
        looks += 1 + resident.count
        if ending.leavesState { keepEnd(of: request, resident) }
        for sequence in resident where sequence.request === request { leave(sequence) }
        for sequence in request.waiting { giveMemory(of: sequence) }
        // What its account waited for may have been this.
        if !request.waiting.isEmpty { keyValues.forget(request.account) }
        resident.removeAll { $0.request === request }
        request.waiting = []
        enqueue(request)
        wakeNext()
        endTurn(request)
        return Ended(request: request, ending: ending)
    }

    private mutating func leave(_ sequence: Sequence) {
        sequence.finish()
        users[sequence.request.account]?.used -= 1
        giveMemory(of: sequence)
        wakeNext()
    }
}
