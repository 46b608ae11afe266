// SPDX-License-Identifier: Apache-2.0
//
// The memory for keys and values: a sequence has all that it may need before it has a slot, and keeps it until it leaves.

import Engine
import ModelStore
import RPC

extension SchedulerCore {
    /// - Returns: whether a request's next sequence has its memory; if not, its account waits.
    /// - Throws: why it will never have it.
    mutating func setMemoryAside(_ request: Request) throws(RPCError) -> Bool {
        guard request.lacksMemory, let context = request.memory.context,
            let sequence = request.waiting.first
        else { return true }
        let tokens = min(
            context, sequence.length + min(context, request.consumer.answerTokens))
        let bytes = request.memory.pageBytes(tokens)
        switch keyValues.take(bytes, for: request.account) {
        case .granted:
            sequence.keyValueBytes = bytes
            wakeNext()
            return true
        case .later: return false
        case .never:
            throw RPCError(
                .resourceExhausted,
                "\(tokens) tokens of model '\(request.record.model)' take \(bytes) bytes of keys and values, \(keyValues.capacity) are set aside for all (key_value_memory): send a shorter prompt or ask for fewer tokens",
                reason: "KEY_VALUE_MEMORY")
        }
    }

    /// A sequence is over, or never begins.
    mutating func giveMemory(of sequence: Sequence) {
        keyValues.give(sequence.keyValueBytes)
        sequence.keyValueBytes = 0
    }

    /// The account that waits first may try again, if something has changed for it.
    mutating func wakeNext() {
        if let account = keyValues.awake { claim(account) }
    }
}

extension Request {
    /// Whether its next sequence has to set memory aside. One that was preempted has some.
    var lacksMemory: Bool { memory.context != nil && waiting.first?.keyValueBytes == 0 }
}
