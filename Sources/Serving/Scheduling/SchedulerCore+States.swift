// SPDX-License-Identifier: Apache-2.0
//
// States that outlive their requests: where a sequence begins, what is kept of it on the way, and what its session has afterwards.

import DequeModule
import Engine
import ModelStore
import RPC

extension SchedulerCore {
    // MARK: Beginning

    /// Finds what a request's next sequence has to read, and how many tokens it will have. It holds nothing afterwards: of its session's
    /// state only what stands before the numbers is read.
    ///
    /// - Throws: why it cannot begin.
    func measure(_ request: Request) throws(RPCError) {
        guard let sequence = request.waiting.first, !sequence.hasBegun, !sequence.isMeasured else {
            return
        }
        sequence.measure()
        if let session = request.session {
            let outline = try session.outline()
            do throws(SavedStateError) { try outline.header.layout.check(request.memory) } catch {
                throw RPCError(error)
            }
            request.record.sessionTokens = outline.header.tokens.count
            sequence.begin(at: outline, opening: session.opening)
            guard !sequence.tokens.isEmpty else {
                throw .invalid("prompt", "there is nothing to append to session '\(session.id)'")
            }
        }
        try limit(request, sequence)
    }

    /// Prepares a request's next sequence for its slot, once it has its memory: from the longest known prefix, or from where its session
    /// is.
    ///
    /// - Returns: whether it is prepared; otherwise more of its session's state is to be read than this turn may.
    /// - Throws: why its session cannot go on.
    mutating func resume(_ request: Request, _ turn: inout Turn) throws(RPCError) -> Bool {
        guard let sequence = request.waiting.first, !sequence.hasBegun else { return true }
        if let outline = sequence.outline, let session = request.session {
            let builder: StateBuilder
            do throws(SavedStateError) {
                builder = try pool.builder(outline.header, of: request.model)
            } catch { throw RPCError(error) }
            sequence.begin(reading: try session.reading(outline, builder))
        }
        guard try sequence.readOn(&turn.bytesToRead) else { return false }
        let use = request.consumer.prefixUse
        guard configuration.prefixBytes > 0, sequence.isWhole, use != .nothing else { return true }
        let tokens = sequence.tokens
        // What has a result that is wanted is always read; the last token has.
        let most = request.consumer.firstResult(of: tokens.count)
        let found = prefixes.find(tokens, of: key(of: request), most: most) {
            use.allows($0, of: tokens)
        }
        let intervals = stride(
            from: configuration.prefixInterval, to: tokens.count, by: configuration.prefixInterval)
        // Scores are of use before the last token that is the same.
        let agreed: Int
        if case .stateAndScores = use { agreed = found.agreed - 1 } else { agreed = found.agreed }
        let marks = Set(intervals).union([agreed, most, tokens.count])
        sequence.begin(
            after: found.known?.depth ?? 0, of: found.known?.prefix.snapshot, marks: marks.sorted())
        request.record.cachedTokens += sequence.cached
        if let prefix = found.known?.prefix { request.consumer.begin(sequence, after: prefix) }
        return true
    }

    /// Keeps a sequence within its model's context.
    ///
    /// - Throws: why it has no place there.
    private func limit(_ request: Request, _ sequence: Sequence) throws(RPCError) {
        guard let context = request.memory.context else { return }
        let isAnswer = request.consumer.answerTokens > 0
        let room = context - sequence.length
        guard room >= (isAnswer ? 1 : 0) else {
            throw .invalid(
                isAnswer ? "prompt" : "input",
                "\(sequence.length) tokens, those of the session among them; model '\(request.record.model)' has positions for \(context)"
                    + (isAnswer ? ", the answer's among them" : ""))
        }
        if isAnswer { request.consumer.limit(to: room) }
    }

    // MARK: Prefixes

    private func key(of request: Request) -> PrefixCache.Key {
        PrefixCache.Key(
            digest: request.digest,
            owner: configuration.sharesPrefixes ? PrefixCache.everybody : request.account)
    }

    func tap(_ batch: Batch) {
        var free = pool.taps
        for (sequence, count) in batch.parts { sequence.tap(count, &free) }
    }

    /// Keeps the states at the taps of a sequence that is about to advance.
    mutating func keepTaps(of sequence: Sequence, _ step: Step) {
        switch step {
        case .closed, .unusable, .refused: return
        case .reading, .next, .inputDone, .over: break
        }
        let request = sequence.request
        for tap in sequence.taps {
            let snapshot = pool.save(tap.slot, of: request.model, sequence.history(at: tap.mark))
            let consumer = request.consumer
            let known = KnownPrefix(
                snapshot: snapshot, hiddenSum: consumer.hiddenSum(of: sequence, at: tap.mark),
                scores: consumer.scores(at: tap.mark))
            prefixes.insert(sequence.tokens[..<tap.mark], known, of: key(of: request))
        }
    }

    /// Keeps what an answer has come to, for its session and for prompts that go on with it.
    mutating func keepEnd(of request: Request, _ resident: [Sequence]) {
        guard
            let sequence = resident.first(where: { $0.request === request })
                ?? request.waiting.first, sequence.hasBegun, sequence.promptLeft ?? 0 == 0,
            request.session != nil || !sequence.answer.isEmpty,
            let snapshot = sequence.snapshot
        else { return }
        if let session = request.session {
            let state = SessionState(
                snapshot: snapshot, unread: sequence.unread.map { [$0] } ?? [])
            if session.commit(state) { request.record.sessionTokens = state.history.count }
        }
        guard configuration.prefixBytes > 0, sequence.isWhole else { return }
        prefixes.insert(
            (sequence.tokens + sequence.answer)[...],
            KnownPrefix(snapshot: snapshot), of: key(of: request))
    }

    // MARK: Sessions

    /// Enters a session's request into the order of its turns.
    ///
    /// - Returns: whether it need not wait for another.
    mutating func isTurn(_ request: Request) -> Bool {
        guard let id = request.session?.id else { return true }
        sessionTurns[id, default: []].append(request)
        return sessionTurns[id]?.count == 1
    }

    /// A request is over: the next turn of its session may begin.
    mutating func endTurn(_ request: Request) {
        guard let id = request.session?.id, var turns = sessionTurns[id] else { return }
        request.session?.end()
        let wasFirst = turns.first === request
        turns.removeAll { $0 === request }
        sessionTurns[id] = turns.isEmpty ? nil : turns
        if wasFirst, let next = turns.first { enqueue(next) }
    }
}
