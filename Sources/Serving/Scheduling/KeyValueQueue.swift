// SPDX-License-Identifier: Apache-2.0

import RPC

/// The memory for keys and values: sequences set aside what they may need before they begin, and accounts that find too little wait in
/// the order in which they came. So a large sequence is not overtaken for ever, and none runs out of memory in the middle.
struct KeyValueQueue {
    enum Answer: Equatable {
        case granted
        /// Not now: the account waits.
        case later
        /// It is more than there is.
        case never
    }

    let capacity: Int
    private(set) var used = 0
    private var waiting: [Account] = []
    /// Whether the first that waits may try again.
    private var isFirstAwake = false

    init(capacity: Int) { self.capacity = capacity }

    /// Whether an account need not try: nothing has changed since it began to wait, or others are before it.
    func blocks(_ account: Account) -> Bool {
        waiting.contains(account) && !(isFirstAwake && waiting.first == account)
    }

    mutating func take(_ bytes: Int, for account: Account) -> Answer {
        guard bytes <= capacity else { return .never }
        guard bytes > 0 else { return .granted }
        guard waiting.first == nil || waiting.first == account, used + bytes <= capacity else {
            if !waiting.contains(account) { waiting.append(account) }
            if waiting.first == account { isFirstAwake = false }
            return .later
        }
        used += bytes
        forget(account)
        return .granted
    }

    mutating func give(_ bytes: Int) {
        guard bytes > 0 else { return }
        used -= bytes
        isFirstAwake = true
    }

    /// The account wants nothing any more.
    mutating func forget(_ account: Account) {
        if waiting.first == account { isFirstAwake = true }
        waiting.removeAll { $0 == account }
    }

    /// The account that may try again, if one may.
    var awake: Account? { isFirstAwake ? waiting.first : nil }
}
