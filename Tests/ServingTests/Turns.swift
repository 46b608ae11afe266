// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import RPC

@testable import Serving

/// A scheduler with a model, readers and a clock that tests decide on: no thread, no socket, no time.
struct Turns: ~Copyable {
    var core: SchedulerCore
    var now: UInt64 = 1000
    private(set) var requests: [String: FakeConsumer] = [:]
    let states = FakeStates()
    private var count = 0

    /// Any two objects are two models.
    final class FakeModel: Sendable {}
    static let models = [FakeModel(), FakeModel(), FakeModel()]
    /// The one that has no keys and values, whatever the others have.
    static let recurrent = 2

    /// Nanoseconds that a batch of `rows` rows of a model takes.
    typealias Cost = (_ model: Int, _ rows: Int) -> UInt64
    private let cost: Cost
    /// Of every model.
    private let memory: SequenceMemory

    init(
        slots: Int, chunk: Int = 256, turnTime: UInt64 = 50_000_000,
        slowReaderTimeout: UInt64 = 1_000_000, prefixBytes: Int = 0, keyValueBytes: Int = 0,
        memory: SequenceMemory = .recurrent(floats: 0),
        cost: @escaping Cost = { _, _ in 0 }
    ) {
        self.cost = cost
        self.memory = memory
        var configuration = ServingConfiguration()
        configuration.slots = slots
        configuration.prefillChunk = chunk
        configuration.turnTime = turnTime
        configuration.slowReaderTimeout = slowReaderTimeout
        configuration.prefixBytes = prefixBytes
        configuration.keyValueBytes = keyValueBytes
        configuration.stateBytesPerTurn = 512 << 10
        core = SchedulerCore(configuration, states: states)
    }

    /// A request's id: its user and how many it has had before, "A0", "A1", "B0".
    @discardableResult
    mutating func generate(
        _ user: Character, prompt: Int = 1, count: Int = .max, model: Int = 0,
        deadline: UInt64 = .max, in session: SessionTurn? = nil
    ) -> FakeConsumer {
        submit(user, [prompt], FakeConsumer(tokens: count), model, deadline, session)
    }

    @discardableResult
    mutating func embed(
        _ user: Character, inputs: [Int], model: Int = 0, deadline: UInt64 = .max
    ) -> FakeConsumer {
        submit(user, inputs, FakeConsumer(tokens: nil), model, deadline)
    }

    private mutating func submit(
        _ user: Character, _ inputs: [Int], _ consumer: FakeConsumer, _ model: Int,
        _ deadline: UInt64, _ session: SessionTurn? = nil
    ) -> FakeConsumer {
        let number = requests.keys.count { $0.first == user }
        let call = Call(
            peer: Peer(uid: UInt32(user.asciiValue ?? 0), gid: 0, pid: 0), service: "",
            method: "", received: now, deadline: deadline)
        consumer.record = RequestRecord(
            id: "\(user)\(number)", call: call, model: "m", promptTokens: inputs.reduce(0, +))
        requests[consumer.id] = consumer
        core.submit(
            Request(
                record: consumer.record, deadline: deadline,
                model: ObjectIdentifier(Self.models[model]), digest: "\(model)",
                memory: model == Self.recurrent ? .recurrent(floats: 0) : memory,
                inputs: inputs.map { [UInt32](repeating: 1, count: $0) },
                consumer: consumer, session: session))
        return consumer
    }

    /// Plans a turn, computes it and applies what came of it.
    @discardableResult
    mutating func turn() -> SchedulerCore.Turn {
        let turn = core.plan(now: now)
        conclude(turn.ended)
        for batch in turn.batches {
            let steps = batch.parts.map { sequence, count in
                states.run(sequence, count)
                return sequence.request.consumer.fake.step(
                    isPromptDone: sequence.completesPrompt(count))
            }
            let model = Self.models.firstIndex { ObjectIdentifier($0) == batch.model } ?? 0
            now += cost(model, batch.parts.reduce(0) { $0 + $1.count })
            conclude(core.apply(batch, steps, now: now))
        }
        return turn
    }

    mutating func turns(_ count: Int) { for _ in 0..<count { turn() } }

    mutating func conclude(_ ended: [SchedulerCore.Ended]) {
        for end in ended {
            end.request.consumer.fake.log.append(end.request.conclude(end.ending, now: now))
            core.watchReader(of: end.request)
        }
    }

    mutating func gone(_ id: String) { conclude(core.gone(id).map { [$0] } ?? []) }

    /// What would run in the next turn, by request; and its prompt tokens.
    mutating func running() -> [String] { turn().parts.map(\.id) }
}

extension SchedulerCore.Turn {
    var parts: [(id: String, count: Int)] {
        batches.flatMap { $0.parts.map { ($0.sequence.request.id, $0.count) } }
    }
}

/// States that remember the history of their slot: for each token read, the request that read it; for those of a session, its values.
final class FakeStates: SlotStates {
    private var slots: [Int: [Float]] = [:]
    /// Saved states that were asked for whole: each was about to be read.
    private(set) var read = 0

    func builder(_ header: SavedStateHeader, of model: ModelID) -> StateBuilder {
        read += 1
        return StateBuilder(header)
    }

    func load(_ snapshot: StateSnapshot?, into slot: Int, of model: ModelID) {
        slots[slot] = snapshot?.values ?? []
    }

    func free(_ slot: Int, of model: ModelID) { slots[slot] = nil }

    func save(_ slot: Int, of model: ModelID, history: TokenHistory) -> StateSnapshot {
        StateSnapshot(modelDigest: "", history: history, values: slots[slot] ?? [])
    }

    /// Reads `count` tokens; the slot must remember exactly what the sequence has read.
    func run(_ sequence: Serving.Sequence, _ count: Int) {
        let name = Float(sequence.request.arrival * 1000 + sequence.input)
        let before = sequence.request.record.sessionTokens ?? 0
        let remembered = slots[sequence.slot] ?? []
        precondition(
            remembered.count == sequence.consumed
                && remembered.dropFirst(before).allSatisfy { $0 == name },
            "slot \(sequence.slot) remembers somebody else")
        slots[sequence.slot, default: []] += [Float](repeating: name, count: count)
    }
}

/// An answer of so many tokens, or vectors, for a reader that tests decide on.
final class FakeConsumer: Consumer {
    private let tokens: Int?
    var record: RequestRecord!
    var id: String { record.id }
    private(set) var count = 0
    /// How it ended, as the log has it. Empty while it is open.
    var log: [String] = []
    private(set) var error: RPCError?
    private(set) var reason: FinishReason?
    var stalledSince: UInt64 = 0
    /// Nobody reads it any more.
    var isClosed = false
    var answerTokens: Int { tokens ?? 0 }

    init(tokens: Int?) { self.tokens = tokens }

    func step(isPromptDone: Bool) -> Step {
        guard isPromptDone else { return .reading }
        if isClosed { return .closed }
        count += 1
        guard let tokens else { return .inputDone }
        return count < tokens ? .next(1) : .over(.length)
    }

    var keepsPartialAnswer: Bool { tokens != nil }
    var transcript: String? { nil }
    func begin() {}
    func wants(_ index: Int, of count: Int) -> Wants { .nothing }
    /// Of scoring: the first row that is wanted.
    var firstResult: Int?
    func firstResult(of count: Int) -> Int { firstResult ?? count - 1 }
    func take(_ rows: ComputedRows, of sequence: Serving.Sequence, isPromptDone: Bool) -> Step {
        preconditionFailure("there is no model here")
    }
    func end(_ reason: FinishReason?, usage: Usage, timings: Timings) { self.reason = reason }
    func fail(_ error: RPCError) {
        self.error = error
        stalledSince = 0
    }
}

extension Consumer {
    var fake: FakeConsumer {
        guard let fake = self as? FakeConsumer else { preconditionFailure("another consumer") }
        return fake
    }
}
