// SPDX-License-Identifier: Apache-2.0

import HeapModule

/// Keys by priority, lowest first. Setting, changing and removing one is O(log n), the first is at hand.
struct PriorityMap<Key: Hashable, Priority: Comparable> {
    /// An entry that `current` no longer knows stays in the heap until it comes first or there are too many of them.
    private struct Entry: Comparable {
        let key: Key
        let priority: Priority
        let version: UInt64

        static func < (a: Entry, b: Entry) -> Bool { a.priority < b.priority }
        static func == (a: Entry, b: Entry) -> Bool { a.priority == b.priority }
    }

    private var heap = Heap<Entry>()
    private var current: [Key: Entry] = [:]
    private var version: UInt64 = 0

    /// Entries in memory, those that no longer count among them.
    var stored: Int { heap.count }
    var isEmpty: Bool { current.isEmpty }
    var first: (key: Key, priority: Priority)? { heap.min.map { ($0.key, $0.priority) } }

    mutating func set(_ key: Key, _ priority: Priority) {
        if current[key]?.priority == priority { return }
        version += 1
        let entry = Entry(key: key, priority: priority, version: version)
        current[key] = entry
        heap.insert(entry)
        settle()
    }

    mutating func remove(_ key: Key) {
        guard current.removeValue(forKey: key) != nil else { return }
        settle()
    }

    mutating func removeAll(where isGone: (Key) -> Bool) {
        current = current.filter { !isGone($0.key) }
        heap = Heap(current.values)
    }

    /// Makes the heap's first entry a current one, and keeps it at most about twice as long as there are keys.
    private mutating func settle() {
        while let entry = heap.min, current[entry.key]?.version != entry.version {
            heap.removeMin()
        }
        if heap.count > 2 * current.count + 16 { heap = Heap(current.values) }
    }
}
