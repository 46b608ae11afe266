// SPDX-License-Identifier: Apache-2.0
//
// States of prompts and answers that may come again. A model is recurrent: the state after a prefix is all there is to know of
// it, so a request begins where its longest known prefix ends, and its answer has the same bits as if it had begun at the start.
//
// Each account has trees of its own, so no account can tell from timing what another has asked. Bytes are bounded: when they run
// out, the state goes that was used least recently among those of the account that holds the most.

import Engine
import RPC

struct PrefixCache {
    /// Whose states, of which model.
    struct Key: Hashable {
        let digest: String
        let owner: Account
    }

    /// The owner of states that all accounts share. No user has this number.
    static let everybody = Account(uid: .max)

    struct Stats: Sendable, Equatable {
        /// Prompts that began with a known prefix, and those that did not.
        var hits: UInt64 = 0
        var misses: UInt64 = 0
        /// Prompt tokens that were not computed again.
        var cachedTokens: UInt64 = 0
        var evictions: UInt64 = 0
        var states = 0
        var bytes = 0
    }

    private struct Place: Hashable {
        let key: Key
        let node: Int
    }

    let capacity: Int
    private var trees: [Key: PrefixTree] = [:]
    /// Nodes with states, least recently used first.
    private var recent: [Account: PriorityMap<Place, UInt64>] = [:]
    private var held: Quota
    private var uses: UInt64 = 0
    private var counts = Stats()

    /// - Parameter capacity: the most bytes; 0 keeps nothing.
    init(capacity: Int) {
        self.capacity = capacity
        held = Quota(total: capacity, perAccount: capacity)
    }

    var stats: Stats {
        var stats = counts
        stats.bytes = held.used
        return stats
    }

    /// - Parameter most: the longest prefix that is of use.
    mutating func find(
        _ tokens: [UInt32], of key: Key, most: Int, where isUsable: (KnownPrefix) -> Bool
    ) -> PrefixTree.Found {
        guard capacity > 0 else { return .init() }
        let found = trees[key]?.find(tokens, most: most, where: isUsable) ?? .init()
        if let known = found.known {
            counts.hits += 1
            counts.cachedTokens += UInt64(known.depth)
            touch(Place(key: key, node: known.node))
        } else {
            counts.misses += 1
        }
        return found
    }

    /// - Parameter tokens: what the state has read.
    mutating func insert(_ tokens: ArraySlice<UInt32>, _ known: KnownPrefix, of key: Key) {
        let size = known.byteCount + tokens.count * 4 + 2 * PrefixTree.nodeBytes
        guard !tokens.isEmpty, size <= capacity else { return }
        let node = change(key) { $0.insert(tokens, known) }
        touch(Place(key: key, node: node))
        while held.used > capacity, evict() {}
    }

    /// Forgets all states of a model.
    mutating func remove(digest: String) {
        for key in Array(trees.keys) where key.digest == digest {
            guard let tree = trees.removeValue(forKey: key) else { continue }
            held.give(tree.bytes, back: key.owner)
            counts.states -= tree.states
            recent[key.owner]?.removeAll { $0.key == key }
        }
    }

    private mutating func touch(_ place: Place) {
        uses += 1
        recent[place.key.owner, default: .init()].set(place, uses)
    }

    /// - Returns: whether there was something to evict.
    private mutating func evict() -> Bool {
        let owner = recent.filter { !$0.value.isEmpty }.keys.max {
            (held.holds($0), $0.uid) < (held.holds($1), $1.uid)
        }
        guard let owner, let place = recent[owner]?.first?.key else { return false }
        recent[owner]?.remove(place)
        if recent[owner]?.isEmpty == true { recent[owner] = nil }
        change(place.key) { $0.remove(place.node) }
        counts.evictions += 1
        return true
    }

    /// Changes a tree, and what its owner holds with it.
    private mutating func change<R>(_ key: Key, _ body: (inout PrefixTree) -> R) -> R {
        let (before, states) = (trees[key]?.bytes ?? 0, trees[key]?.states ?? 0)
        let result = body(&trees[key, default: PrefixTree()])
        let after = trees[key]?.bytes ?? 0
        counts.states += (trees[key]?.states ?? 0) - states
        if after >= before {
            held.add(after - before, to: key.owner)
        } else {
            held.give(before - after, back: key.owner)
        }
        if trees[key]?.isEmpty == true { trees[key] = nil }
        return result
    }
}
