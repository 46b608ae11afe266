// SPDX-License-Identifier: Apache-2.0

import Engine
import RPC
import TestSupport
import Testing

@testable import Serving

private func known(_ tokens: [UInt32], numbers: Int = 4, sum: [Float]? = nil) -> KnownPrefix {
    KnownPrefix(
        snapshot: StateSnapshot(
            modelDigest: "m", history: TokenHistory(tokens),
            values: [Float](repeating: Float(tokens.count), count: numbers)), hiddenSum: sum)
}

private func key(_ digest: String, _ uid: UInt32) -> PrefixCache.Key {
    PrefixCache.Key(digest: digest, owner: Account(uid: uid))
}

@Suite("Known prefixes are a tree over tokens")
struct PrefixTreeTests {
    @Test("the longest known prefix is found, and the token at which a prompt leaves what is known")
    func longest() {
        var tree = PrefixTree()
        for count in [2, 5] {
            _ = tree.insert([1, 2, 3, 4, 5][..<count], known(Array(1...5)[..<count].map { $0 }))
        }
        func find(_ tokens: [UInt32]) -> [Int] {
            let found = tree.find(tokens, most: tokens.count)
            return [found.known?.depth ?? 0, found.agreed]
        }
        #expect(find([1, 2, 3, 4, 5, 6]) == [5, 5])
        #expect(find([1, 2, 3, 4, 9]) == [2, 4])
        #expect(find([1, 2]) == [2, 2])
        #expect(find([1]) == [0, 1])
        #expect(find([9]) == [0, 0])
        #expect(
            tree.find([1, 2, 3, 4, 5], most: 4).known?.depth == 2, "the last token is read again")
    }

    @Test("two prompts that share 479 tokens share 479")
    func shared() {
        var tree = PrefixTree()
        let base = (0..<479).map { UInt32($0) }
        _ = tree.insert((base + [1, 2, 3])[...], known(base + [1, 2, 3]))
        #expect(tree.find(base + [7, 8, 9], most: 481).agreed == 479)
        _ = tree.insert(base[...], known(base))
        #expect(tree.find(base + [5, 5, 5], most: 481).known?.depth == 479)
    }

    @Test(
        "a random tree finds what a list of all prefixes finds, and is empty when all is removed",
        arguments: 0..<20)
    func random(_ seed: UInt64) {
        var random = SeededGenerator(seed)
        var tree = PrefixTree()
        var list: [[UInt32]: Int] = [:]
        func tokens() -> [UInt32] {
            (0..<Int.random(in: 1...12, using: &random)).map { _ in
                UInt32.random(in: 0...1, using: &random)
            }
        }
        for _ in 0..<300 {
            if Int.random(in: 0..<3, using: &random) == 0,
                let one = list.keys.randomElement(using: &random)
            {
                tree.remove(list[one] ?? 0)
                list[one] = nil
            } else {
                let new = tokens()
                list[new] = tree.insert(new[...], known(new))
            }
            let asked = tokens()
            let most = Int.random(in: 0...asked.count, using: &random)
            let found = tree.find(asked, most: most)
            #expect(
                found.known?.depth
                    == list.keys.filter { $0.count <= most && asked.starts(with: $0) }.map(\.count)
                    .max())
            #expect(found.known.map { $0.prefix.snapshot.tokens } == found.known?.depth)
            let agreed = list.keys.map { zip($0, asked).prefix { $0 == $1 }.count }.max() ?? 0
            #expect(found.agreed == agreed)
            #expect(tree.states == list.count && tree.nodeCount <= 2 * list.count)
        }
        for node in list.values { tree.remove(node) }
        #expect(tree.isEmpty && tree.bytes == 0 && tree.nodeCount == 0)
    }
}

@Suite("States of prefixes are bounded in bytes")
struct PrefixCacheTests {
    private let size = 16 + 4 + PrefixTree.nodeBytes

    @Test("the least recently used goes first; a hit is a use")
    func leastRecent() {
        var cache = PrefixCache(capacity: 3 * size + 2 * PrefixTree.nodeBytes)
        let a = key("m", 1)
        for token: UInt32 in 1...3 { cache.insert([token], known([token]), of: a) }
        _ = cache.find([1, 9], of: a, most: 1) { _ in true }
        for token: UInt32 in 4...5 { cache.insert([token], known([token]), of: a) }
        let left = (1...5).filter {
            cache.find([UInt32($0), 9], of: a, most: 1) { _ in true }.known != nil
        }
        #expect(left.contains(1) && left.contains(5) && !left.contains(2))
        #expect(cache.stats.bytes <= cache.capacity)
        #expect(cache.stats.evictions == UInt64(5 - left.count))
    }

    @Test(
        "no account finds another's states, and none of another model; unless accounts share them")
    func separate() {
        var cache = PrefixCache(capacity: 1 << 20)
        cache.insert([1, 2], known([1, 2]), of: key("m", 1))
        func finds(_ key: PrefixCache.Key) -> Bool {
            cache.find([1, 2, 3], of: key, most: 2) { _ in true }.agreed > 0
        }
        #expect(finds(key("m", 1)) && !finds(key("m", 2)) && !finds(key("n", 1)))
        cache.remove(digest: "m")
        #expect(!finds(key("m", 1)) && cache.stats.bytes == 0 && cache.stats.states == 0)
    }

    @Test("an account that floods the cache evicts its own states")
    func flood() {
        var cache = PrefixCache(capacity: 20 * size)
        for token: UInt32 in 1...5 { cache.insert([token], known([token]), of: key("m", 1)) }
        for token: UInt32 in 1...500 { cache.insert([token], known([token]), of: key("m", 2)) }
        for token: UInt32 in 1...5 {
            #expect(cache.find([token, 9], of: key("m", 1), most: 1) { _ in true }.known != nil)
        }
        #expect(cache.stats.bytes <= cache.capacity && cache.stats.states > 15)
    }

    @Test("a state that is larger than all the room is not kept, and with no room nothing is")
    func tooLarge() {
        for capacity in [0, 100] {
            var cache = PrefixCache(capacity: capacity)
            cache.insert([1], known([1]), of: key("m", 1))
            #expect(cache.stats.states == 0 && cache.stats.bytes == 0)
        }
    }
}

/// States that are the tokens they have read; every row is carried out.
private final class TokenStates: SlotStates {
    private var slots: [Int: [UInt32]] = [:]

    func load(_ snapshot: StateSnapshot?, into slot: Int, of model: ModelID) {
        slots[slot] = snapshot?.values.map { UInt32($0) } ?? []
    }

    func free(_ slot: Int, of model: ModelID) { slots[slot] = nil }

    func builder(_ header: SavedStateHeader, of model: ModelID) -> StateBuilder {
        StateBuilder(header)
    }

    func save(_ slot: Int, of model: ModelID, history: TokenHistory) -> StateSnapshot {
        let tokens = slots[slot] ?? []
        precondition(history == TokenHistory(tokens), "slot \(slot) has read other tokens")
        return StateSnapshot(modelDigest: "m", history: history, values: tokens.map { Float($0) })
    }

    /// - Returns: everything that the sequence's state has read.
    func run(_ sequence: Serving.Sequence, _ count: Int) -> [UInt32] {
        var rows: [BatchRow] = []
        sequence.rows(count, into: &rows)
        precondition(rows.count == count)
        for row in rows { slots[row.to] = (slots[row.from] ?? []) + [row.token] }
        return slots[sequence.slot] ?? []
    }
}

@Suite("A request begins with the longest known prefix")
struct PrefixSchedulingTests {
    /// Runs random prompts over few tokens, with preemption, eviction, cancelling and any chunk.
    @Test("hit or miss, a state has read exactly its prompt and its answer", arguments: 0..<40)
    func property(_ seed: UInt64) {
        var random = SeededGenerator(seed)
        let states = TokenStates()
        var configuration = ServingConfiguration()
        configuration.slots = Int.random(in: 1...4, using: &random)
        configuration.prefillChunk = Int.random(in: 1...40, using: &random)
        configuration.turnTime = UInt64.random(in: 1...100, using: &random)
        configuration.prefixBytes = Int.random(in: 4000...20000, using: &random)
        configuration.prefixInterval = Int.random(in: 3...30, using: &random)
        configuration.sharesPrefixes = Bool.random(using: &random)
        var core = SchedulerCore(configuration, states: states)
        let model = Turns.FakeModel()
        var prompts: [[UInt32]] = [[1, 2, 3]]
        var open: [String: FakeConsumer] = [:]
        var cached = 0
        for number in 0..<120 {
            // Some tokens of an earlier prompt, and some of its own.
            let earlier = prompts.randomElement(using: &random) ?? []
            let prompt =
                Array(earlier.prefix(Int.random(in: 0...earlier.count, using: &random)))
                + (0..<Int.random(in: 1...25, using: &random)).map { _ in
                    UInt32.random(in: 1...3, using: &random)
                }
            prompts.append(prompt)
            let call = Call(
                peer: Peer(uid: UInt32.random(in: 1...3, using: &random), gid: 0, pid: 0),
                service: "", method: "", received: 0,
                deadline: .max)
            let consumer = FakeConsumer(tokens: Int.random(in: 1...12, using: &random))
            consumer.record = RequestRecord(
                id: "\(number)", call: call, model: "m", promptTokens: prompt.count)
            open[consumer.id] = consumer
            core.submit(
                Request(
                    record: consumer.record, deadline: .max, model: ObjectIdentifier(model),
                    digest: "m", inputs: [prompt],
                    consumer: consumer))
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                if Int.random(in: 0..<20, using: &random) == 0,
                    let id = open.keys.sorted().randomElement(using: &random)
                {
                    _ = core.cancel(id)
                    open[id] = nil
                }
                turn()
            }
        }
        while core.wakeTime != nil, !open.isEmpty { turn() }
        #expect(cached > 0, "there were hits")
        #expect(core.prefixes.stats.bytes <= configuration.prefixBytes)

        func turn() {
            let turn = core.plan(now: 1)
            for batch in turn.batches {
                let steps = batch.parts.map { sequence, count in
                    let all = states.run(sequence, count)
                    let own =
                        sequence.tokens + sequence.answer + (sequence.unread.map { [$0] } ?? [])
                    #expect(all == Array(own.prefix(sequence.consumed + count)))
                    return sequence.request.consumer.fake.step(
                        isPromptDone: sequence.completesPrompt(count))
                }
                for end in core.apply(batch, steps, now: 1) {
                    cached += end.request.record.cachedTokens
                    open[end.request.id] = nil
                }
            }
        }
    }
}
