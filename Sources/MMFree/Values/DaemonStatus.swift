// SPDX-License-Identifier: Apache-2.0

import RPC

/// What a daemon is doing.
public struct DaemonStatus: Sendable, Equatable {
    /// A request that is open.
    public struct Request: Sendable, Equatable {
        public var requestID: String
        /// "Generate", "Embed".
        public var method: String
        public var model: String
        public var uid: UInt32
        public var pid: Int32
        /// "queued", "prefill", "decode".
        public var phase: String
        public var promptTokens: Int
        public var completionTokens: Int
        public var age: Duration
        /// Of the prompt, tokens that need not be computed.
        public var cachedTokens: Int
        /// Of the prompt, tokens that have been read so far, computed or not.
        public var readTokens: Int
        /// Since the first token of the answer; zero before.
        public var decoding: Duration
        /// How often one of its sequences gave its slot to another user.
        public var preemptions: Int
    }

    public var version: String
    /// "serving", "draining".
    public var state: String
    public var uptime: Duration
    public var slots: Int
    public var active: Int
    public var queued: Int
    public var requests: [Request]
    public var finishedRequests: UInt64
    public var refusedRequests: UInt64
    public var promptTokens: UInt64
    public var completionTokens: UInt64
    /// Of the daemon's process. Model pages are shared with everybody who maps them.
    public var residentBytes: UInt64
    public var models: Int
    /// Of the daemon's process: memory that is its own.
    public var privateBytes: UInt64
    /// Descriptors the daemon has open.
    public var descriptors: Int
    /// Prompt tokens of finished requests that were not computed again.
    public var cachedTokens: UInt64
    public var preemptions: UInt64
    /// `nil` from a daemon that keeps none.
    public var prefixes: Prefixes?
    public var sessions: Sessions?

    /// States of prompts and answers that are kept because they may come again.
    public struct Prefixes: Sendable, Equatable {
        /// Inputs that began with a known prefix, and those that did not.
        public var hits: UInt64
        public var misses: UInt64
        /// Prompt tokens that were not computed again.
        public var cachedTokens: UInt64
        public var evictions: UInt64
        public var states: UInt64
        public var bytes: UInt64
        public var byteLimit: UInt64
    }

    /// Sessions of all users.
    public struct Sessions: Sendable, Equatable {
        public var count: Int
        public var countLimit: Int
        public var bytes: UInt64
        public var byteLimit: UInt64
        /// Turns that ended and left a state.
        public var turns: UInt64
        /// Sessions whose time to live was over.
        public var expired: UInt64
    }
}

/// What a daemon is, and the limits it sets.
public struct DaemonInfo: Sendable, Equatable {
    public struct Limits: Sendable, Equatable {
        public var frameBytes: Int
        public var promptTokens: Int
        public var completionTokens: Int
        public var stopStrings: Int
        public var embedInputs: Int
        public var queue: Int
        public var queuePerUser: Int
        public var defaultTimeout: Duration
        public var timeout: Duration
    }

    public var version: String
    /// "ttrpc 1.2, mmfree.v1".
    public var protocolVersion: String
    /// The kernel table in use.
    public var kernels: String
    public var threads: Int
    public var limits: Limits
}

// MARK: The wire

extension DaemonStatus {
    init(_ wire: StatusResponse) {
        self.init(
            version: wire.version, state: wire.state,
            uptime: .nanoseconds(Int64(clamping: wire.uptime)), slots: Int(wire.slots),
            active: Int(wire.active), queued: Int(wire.queued),
            requests: wire.requests.map {
                Request(
                    requestID: $0.requestID, method: $0.method, model: $0.model, uid: $0.uid,
                    pid: $0.pid, phase: $0.phase, promptTokens: Int($0.promptTokens),
                    completionTokens: Int($0.completionTokens),
                    age: .nanoseconds(Int64(clamping: $0.age)),
                    cachedTokens: Int($0.cachedTokens), readTokens: Int($0.readTokens),
                    decoding: .nanoseconds(Int64(clamping: $0.decode)),
                    preemptions: Int($0.preemptions))
            },
            finishedRequests: wire.finishedRequests, refusedRequests: wire.refusedRequests,
            promptTokens: wire.promptTokens, completionTokens: wire.completionTokens,
            residentBytes: wire.residentBytes, models: Int(wire.models),
            privateBytes: wire.privateBytes, descriptors: Int(wire.descriptors),
            cachedTokens: wire.cachedTokens, preemptions: wire.preemptions,
            prefixes: wire.prefixes.map {
                Prefixes(
                    hits: $0.hits, misses: $0.misses, cachedTokens: $0.cachedTokens,
                    evictions: $0.evictions, states: $0.states, bytes: $0.bytes,
                    byteLimit: $0.maxBytes)
            },
            sessions: wire.sessions.map {
                Sessions(
                    count: Int($0.sessions), countLimit: Int($0.maxSessions), bytes: $0.bytes,
                    byteLimit: $0.maxBytes, turns: $0.turns, expired: $0.expired)
            })
    }
}

extension DaemonInfo {
    init(_ wire: GetInfoResponse) {
        let limits = wire.limits ?? RPC.Limits()
        self.init(
            version: wire.version, protocolVersion: wire.protocol, kernels: wire.kernels,
            threads: Int(wire.threads),
            limits: Limits(
                frameBytes: Int(limits.maxFrameBytes), promptTokens: Int(limits.maxPromptTokens),
                completionTokens: Int(limits.maxTokens), stopStrings: Int(limits.maxStop),
                embedInputs: Int(limits.maxEmbedInputs), queue: Int(limits.maxQueue),
                queuePerUser: Int(limits.maxQueuePerUser),
                defaultTimeout: .nanoseconds(Int64(clamping: limits.defaultTimeout)),
                timeout: .nanoseconds(Int64(clamping: limits.maxTimeout))))
    }
}
