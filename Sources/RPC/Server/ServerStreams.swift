// SPDX-License-Identifier: Apache-2.0

/// What a server makes of the frames of one connection: pure logic, no input or output.
package struct ServerStreams: Sendable {
    /// How the caller wants its answer.
    package enum Mode: Sendable, Equatable {
        /// One Response.
        case unary
        /// Data frames, the last one marked.
        case streaming
    }

    package enum Action: Sendable, Equatable {
        case start(stream: UInt32, mode: Mode, RequestHead)
        case refuse(stream: UInt32, RPCError)
        /// The caller wants no more of an open stream's answer.
        case cancel(stream: UInt32)
        /// As `refuse`, and the connection is beyond repair.
        case refuseAndClose(stream: UInt32, RPCError)
        case ignore
    }

    package private(set) var open: Set<UInt32> = []
    private var last: UInt32 = 0
    private let limit: Int

    /// - Parameter limit: the most streams open at once.
    package init(limit: Int) { self.limit = limit }

    package mutating func receive(_ frame: Frame) -> Action {
        let stream = frame.header.stream
        switch frame.header.kind {
        case .request:
            if let refusal = take(stream) { return refusal }
            return start(frame, stream)
        case .data:
            guard open.contains(stream) else { return .ignore }
            if frame.header.flags.contains(.noData) {
                guard frame.header.flags.contains(.remoteClosed) else { return .ignore }
                return .cancel(stream: stream)
            }
            return .refuse(
                stream: stream,
                RPCError(.unimplemented, "no method takes more than one message from its client"))
        case .response: return response(on: stream)
        }
    }

    /// Takes a new stream, if it is one.
    private mutating func take(_ stream: UInt32) -> Action? {
        guard stream % 2 == 1, stream > last else {
            return .refuseAndClose(
                stream: stream,
                RPCError(
                    .invalidArgument,
                    "stream \(stream) after stream \(last): a client's streams are odd and rise"))
        }
        last = stream
        return nil
    }

    private func response(on stream: UInt32) -> Action {
        .refuseAndClose(
            stream: stream, RPCError(.invalidArgument, "a client does not send responses"))
    }

    private mutating func start(_ frame: Frame, _ stream: UInt32) -> Action {
        guard open.count < limit else {
            return .refuse(
                stream: stream,
                RPCError(
                    .resourceExhausted,
                    "\(open.count) calls are open on this connection; the limit is \(limit)",
                    reason: "TOO_MANY_STREAMS"
                ).retrying(after: 100_000_000))
        }
        let flags = frame.header.flags
        guard flags.subtracting([.remoteClosed]).isEmpty else {
            return .refuse(
                stream: stream,
                RPCError(
                    .unimplemented,
                    "request flags \(flags.rawValue): no method takes a stream from its client"))
        }
        do {
            let head = try RequestHead(frame.data)
            open.insert(stream)
            return .start(
                stream: stream, mode: flags.contains(.remoteClosed) ? .streaming : .unary, head)
        } catch {
            return .refuse(stream: stream, error)
        }
    }

    /// A frame too large to read was announced on `stream`; its data is skipped.
    package mutating func receiveOversize(_ header: FrameHeader) -> Action {
        switch header.kind {
        case .request: if let refusal = take(header.stream) { return refusal }
        case .data: guard open.contains(header.stream) else { return .ignore }
        case .response: return response(on: header.stream)
        }
        return .refuse(
            stream: header.stream,
            RPCError(
                .resourceExhausted,
                "a frame of \(header.length) bytes; the limit is \(FrameHeader.dataLimit)",
                reason: "FRAME_TOO_LARGE"))
    }

    /// The answer on `stream` is complete; `false` if it was before.
    @discardableResult
    package mutating func end(_ stream: UInt32) -> Bool { open.remove(stream) != nil }
}
