// SPDX-License-Identifier: Apache-2.0

import RPC

/// A conversation that a daemon remembers: a model's state. Prompts with ``GenerateOptions/session`` go on with it.
public struct Session: Sendable, Equatable {
    /// What calls name it by.
    public var id: String
    /// As its owner has called it.
    public var name: String
    public var model: String
    public var modelDigest: String
    /// Tokens of its prompts and answers, the last complete turn's included.
    public var tokens: Int
    /// Of those tokens, in their order.
    public var tokensDigest: UInt64
    /// What is charged to its owner.
    public var bytes: Int
    /// It is dropped when it has not been used for so long.
    public var timeToLive: Duration
    public var idle: Duration
    public var age: Duration
    public var uid: UInt32
    /// Turns that run or wait.
    public var turns: Int
    /// Its last complete turn is on disk, too, and will be there after a reboot.
    public var isOnDisk: Bool
    /// Some of the state that it is restored from has not come yet: until then it has no turns.
    public var isIncomplete: Bool
    /// Of an incomplete one: how much of the state has come.
    public var receivedBytes: Int
}

/// Some of a session's saved state.
public struct SessionStatePart: Sendable, Equatable {
    public var bytes: [UInt8]
    /// Bytes of the whole state; 0 if the daemon does not tell.
    public var stateBytes: Int
}

extension Session {
    init(_ info: SessionInfo) {
        id = info.session
        name = info.name
        model = info.model
        modelDigest = info.modelDigest
        tokens = Int(clamping: info.tokens)
        tokensDigest = info.tokensDigest
        bytes = Int(clamping: info.bytes)
        timeToLive = .nanoseconds(Int64(clamping: info.ttl))
        idle = .nanoseconds(Int64(clamping: info.idle))
        age = .nanoseconds(Int64(clamping: info.age))
        uid = info.uid
        turns = Int(info.turns)
        isOnDisk = info.onDisk
        isIncomplete = info.incomplete
        receivedBytes = Int(clamping: info.receivedBytes)
    }
}
