// SPDX-License-Identifier: Apache-2.0

/// The calls of one client connection, and the messages that their consumers have not taken yet. Pure logic, no input or output.
///
/// ttrpc has no window for each stream, so backpressure is the connection's: while `readsOn` is false nothing is read from the
/// socket, and the daemon waits.
struct ClientStreams {
    /// Bytes of one call's messages that may wait for its consumer.
    static let window = 256 << 10
    /// Bytes of all calls' messages that may wait, while another call has a consumer who waits for the connection.
    static let limit = 8 << 20

    /// A call's number in this program; never used again.
    typealias ID = UInt64
    typealias End = Result<[UInt8], ClientError>

    enum Taken: Equatable {
        /// Messages in their order, at least one.
        case messages([[UInt8]])
        /// A unary call's answer, or nothing for a stream.
        case end(End)
    }

    private struct Call {
        let isStreaming: Bool
        /// Set when its request is written.
        var stream: UInt32?
        var messages: [[UInt8]] = []
        /// Of `messages`, and of those that were taken last: they are the consumer's until it comes again.
        var bytes = 0
        var taken = 0
        var isAwaited = false
        var end: End?
    }

    private var calls: [ID: Call] = [:]
    private var ids: [UInt32: ID] = [:]
    private var next: UInt32 = 1
    private var bytes = 0

    /// Calls whose end has not been taken, and bytes that wait.
    var kept: (calls: Int, bytes: Int) { (calls.count, bytes) }

    /// Whether the daemon owes an answer.
    var isOwed: Bool { !ids.isEmpty }

    /// Whether the socket may be read.
    ///
    /// With a full window it may be only if somebody else would wait for this consumer: the one who is slow may itself be waiting
    /// for another call's answer.
    var readsOn: Bool {
        guard bytes < Self.limit else { return false }
        return calls.values.allSatisfy { $0.bytes + $0.taken < Self.window }
            || calls.values.contains { $0.isAwaited }
    }

    /// A stream number for a new request, `nil` when all are used up.
    mutating func newStream() -> UInt32? {
        guard next < UInt32.max - 2 else { return nil }
        defer { next += 2 }
        return next
    }

    /// Records a call, whose request is yet to be written.
    mutating func begin(_ id: ID, isStreaming: Bool) {
        calls[id] = Call(isStreaming: isStreaming)
    }

    /// - Returns: the stream for its request, `nil` when it has ended meanwhile, or ends now since no numbers are left.
    mutating func open(_ id: ID) -> UInt32? {
        guard let call = calls[id], call.end == nil else { return nil }
        guard let stream = newStream() else {
            refuse(id, .disconnected)
            return nil
        }
        calls[id]?.stream = stream
        ids[stream] = id
        return stream
    }

    /// Ends a call whose request cannot be written.
    mutating func refuse(_ id: ID, _ error: ClientError) { end(id, .failure(error)) }

    /// - Returns: the call that has something new. Frames of calls that have ended are passed over.
    mutating func receive(_ frame: Frame) -> ID? {
        guard let id = ids[frame.header.stream], let call = calls[id] else { return nil }
        let flags = frame.header.flags
        switch frame.header.kind {
        case .request: return nil
        case .data:
            if call.isStreaming, !flags.contains(.noData) { add(frame.data, to: id) }
            if flags.contains(.remoteClosed) { end(id, .success([])) }
        case .response: end(id, Self.end(frame.data))
        }
        return id
    }

    private static func end(_ data: [UInt8]) -> End {
        do {
            let response = try Response(decoding: data)
            guard let status = response.status, status.code != 0 else {
                return .success(response.payload)
            }
            return .failure(.rpc(RPCError(status)))
        } catch { return .failure(.garbled("\(error)")) }
    }

    /// A frame that is too large to read.
    mutating func receiveOversize(_ header: FrameHeader) -> ID? {
        guard let id = ids[header.stream] else { return nil }
        end(id, .failure(.garbled("a frame of \(header.length) bytes")))
        return id
    }

    private mutating func add(_ message: [UInt8], to id: ID) {
        // With what an array takes beside its bytes: empty messages count too.
        let cost = message.count + 64
        calls[id]?.messages.append(message)
        calls[id]?.bytes += cost
        bytes += cost
    }

    private mutating func end(_ id: ID, _ end: End) {
        guard let call = calls[id], call.end == nil else { return }
        calls[id]?.end = end
        if let stream = call.stream { ids[stream] = nil }
    }

    func hasEnded(_ id: ID) -> Bool { calls[id]?.end != nil }

    /// What the consumer gets: everything that waits, or the end after that; `nil`: nothing yet, and it waits.
    mutating func take(_ id: ID) -> Taken? {
        // Dropped: only whoever cancelled it can still ask.
        guard var call = calls[id] else { return .end(.failure(.cancelled)) }
        bytes -= call.taken
        call.taken = 0
        defer {
            calls[id] = call.end != nil && call.messages.isEmpty && call.taken == 0 ? nil : call
        }
        call.isAwaited = false
        if !call.messages.isEmpty {
            defer { (call.messages, call.taken, call.bytes) = ([], call.bytes, 0) }
            return .messages(call.messages)
        }
        if let end = call.end { return .end(end) }
        call.isAwaited = true
        return nil
    }

    /// Ends a call from this side, if it has not ended; what came for it can still be taken.
    ///
    /// - Returns: the stream that the daemon still works on.
    mutating func expire(_ id: ID) -> UInt32? {
        guard let call = calls[id], call.end == nil else { return nil }
        end(id, .failure(.timeout))
        return call.stream
    }

    /// Ends a call from this side; what came for it is dropped.
    ///
    /// - Returns: the stream that the daemon still works on.
    mutating func cancel(_ id: ID) -> UInt32? {
        guard var call = calls[id] else { return nil }
        bytes -= call.bytes
        (call.messages, call.bytes) = ([], 0)
        let stream = call.end == nil ? call.stream : nil
        call.end = .failure(.cancelled)
        calls[id] = call
        if let stream { ids[stream] = nil }
        return stream
    }

    /// Forgets a call that was cancelled, whose consumer is gone.
    mutating func drop(_ id: ID) {
        if let call = calls.removeValue(forKey: id) { bytes -= call.taken }
    }

    /// The connection is over.
    ///
    /// - Returns: the calls that end with it; what came for them before can still be taken.
    mutating func fail(_ error: ClientError) -> [ID] {
        let open = Array(ids.values)
        for id in open { end(id, .failure(error)) }
        return open
    }
}
