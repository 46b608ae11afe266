// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// One stream's way out of the server, from any thread.
struct StreamOutput: Sendable {
    let channel: any Channel
    let stream: UInt32
    let backlog: Backlog
    /// Whether the last frame may be written: it has not been yet. Asked on the channel's loop.
    let mayEnd: @Sendable () -> Bool
    /// Told on the channel's loop that the stream has ended, with its last frame on the way.
    let ended: @Sendable (EventLoopFuture<Void>) -> Void

    /// - Returns: when the system has the bytes, or never will.
    @discardableResult
    func write(
        _ kind: FrameHeader.Kind, flags: FrameHeader.Flags = [], data: [UInt8]
    ) -> EventLoopFuture<Void> {
        let frame = Frame(stream: stream, kind: kind, flags: flags, data: data)
        var buffer = channel.allocator.buffer(capacity: FrameHeader.size + data.count)
        frame.write(to: &buffer)
        let count = buffer.readableBytes
        backlog.add(count)
        let written = channel.writeAndFlush(buffer)
        written.whenComplete { [backlog] _ in backlog.remove(count) }
        return written
    }

    /// Writes the last frame, unless there has been one.
    func end(_ kind: FrameHeader.Kind, flags: FrameHeader.Flags = [], data: [UInt8]) {
        // It counts from now on, not only when the loop comes to it.
        backlog.add(data.count)
        channel.eventLoop.execute { [self] in
            if mayEnd() { ended(write(kind, flags: flags, data: data)) }
            backlog.remove(data.count)
        }
    }

    /// - Parameter advice: what to do.
    static func tooLarge(_ bytes: String, _ advice: String) -> RPCError {
        RPCError(
            .resourceExhausted,
            "the answer takes \(bytes) bytes, a frame holds \(FrameHeader.dataLimit): \(advice)",
            reason: "ANSWER_TOO_LARGE")
    }

    /// Ends a unary answer.
    func respond(_ payload: [UInt8], ifTooLarge advice: String) {
        var response = Response()
        response.status = Status()
        response.payload = payload
        let data = response.encoded()
        guard data.count <= FrameHeader.dataLimit else {
            return respond(Self.tooLarge("\(data.count)", advice))
        }
        end(.response, data: data)
    }

    func respond(_ error: RPCError) {
        var response = Response()
        response.status = error.status
        end(.response, data: response.encoded())
    }
}
