// SPDX-License-Identifier: Apache-2.0

import Glibc
import NIOCore

/// How long a reader has taken nothing of what waits for it. Pure logic; times are monotonic nanoseconds.
struct ReadStall {
    /// How far the reader has come.
    struct Progress: Equatable {
        /// Bytes the system has taken from us.
        var passedOn = 0
        /// What the reader has left with the system. It takes more from us only when most of that is gone.
        var held: Int32 = 0
    }

    enum Step: Equatable {
        /// Look again after this time.
        case look(after: UInt64)
        /// Nothing waits.
        case rest
        case stalled
    }

    private let patience: UInt64
    private var last: Progress?
    private var since: UInt64 = 0

    /// - Parameter patience: nanoseconds without progress; seen at the latest a quarter later.
    init(patience: UInt64) { self.patience = patience }

    /// - Parameter progress: `nil` if nothing waits.
    mutating func look(_ progress: Progress?, now: UInt64) -> Step {
        guard let progress else {
            last = nil
            return .rest
        }
        if progress != last { (last, since) = (progress, now) }
        return now - since < patience ? .look(after: max(1, patience / 4)) : .stalled
    }
}

/// Closes a connection whose reader has taken nothing of what waits for it for too long. Lives on its channel's loop, and
/// sleeps while nothing waits.
final class ReaderWatch: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private var stall: ReadStall
    private let onStall: () -> Void
    private var given = 0
    private var next: Scheduled<Void>?

    /// - Parameter patience: nanoseconds without progress.
    init(patience: UInt64, onStall: @escaping () -> Void) {
        stall = ReadStall(patience: patience)
        self.onStall = onStall
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        given += unwrapOutboundIn(data).readableBytes
        context.write(data, promise: promise)
    }

    func flush(context: ChannelHandlerContext) {
        context.flush()
        if next == nil { look(context) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        next?.cancel()
        next = nil
        context.fireChannelInactive()
    }

    private func look(_ context: ChannelHandlerContext) {
        guard context.channel.isActive else { return }
        switch stall.look(progress(context), now: context.eventLoop.now.uptimeNanoseconds) {
        case .rest: break
        case .look(let time):
            next = context.eventLoop.assumeIsolated().scheduleTask(
                in: .nanoseconds(Int64(clamping: time))
            ) { [self] in
                next = nil
                look(context)
            }
        case .stalled:
            onStall()
            context.close(promise: nil)
        }
    }

    private func progress(_ context: ChannelHandlerContext) -> ReadStall.Progress? {
        let waiting = (try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
        guard waiting > 0 else { return nil }
        var held: Int32 = 0
        try? context.pipeline.syncOperations.withUnsafeTransportIfAvailable(
            of: NIOBSDSocket.Handle.self
        ) { held = Self.held(by: $0) }
        return .init(passedOn: given - waiting, held: held)
    }

    /// What the system holds of what was given to a socket, its own overhead included. Bytes.
    static func held(by descriptor: Int32) -> Int32 {
        var held: Int32 = 0
        _ = ioctl(descriptor, UInt(TIOCOUTQ), &held)
        return held
    }
}
