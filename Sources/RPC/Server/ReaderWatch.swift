// SPDX-License-Identifier: Apache-2.0

import Glibc
import NIOCore

/// Closes a connection whose reader has taken nothing of what waits for it for too long. Lives on its channel's loop, and
/// sleeps while nothing waits.
final class ReaderWatch: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// How far the reader has come.
    private struct Progress: Equatable {
        /// Bytes the system has taken from us.
        var passedOn = 0
        /// What the reader has left with the system. It takes more from us only when most of that is gone.
        var left: Int32 = 0
    }

    private let look: TimeAmount
    private let onStall: () -> Void
    private var given = 0
    private var last = Progress()
    private var looksInVain = 0
    private var next: Scheduled<Void>?

    /// How often one looks before the time is up.
    private static let looks = 4

    /// - Parameter patience: nanoseconds without progress; it may be a quarter more.
    init(patience: UInt64, onStall: @escaping () -> Void) {
        look = .nanoseconds(Int64(clamping: max(1, patience / UInt64(Self.looks))))
        self.onStall = onStall
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        given += unwrapOutboundIn(data).readableBytes
        context.write(data, promise: promise)
    }

    func flush(context: ChannelHandlerContext) {
        context.flush()
        guard next == nil, context.channel.isActive, waiting(context) > 0 else { return }
        last = progress(context)
        looksInVain = 0
        lookLater(context)
    }

    func channelInactive(context: ChannelHandlerContext) {
        next?.cancel()
        next = nil
        context.fireChannelInactive()
    }

    private func lookLater(_ context: ChannelHandlerContext) {
        next = context.eventLoop.assumeIsolated().scheduleTask(in: look) { [self] in
            next = nil
            guard context.channel.isActive, waiting(context) > 0 else { return }
            let now = progress(context)
            looksInVain = now == last ? looksInVain + 1 : 0
            last = now
            guard looksInVain < Self.looks else {
                onStall()
                return context.close(promise: nil)
            }
            lookLater(context)
        }
    }

    /// Bytes the system does not have yet.
    private func waiting(_ context: ChannelHandlerContext) -> Int {
        (try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    private func progress(_ context: ChannelHandlerContext) -> Progress {
        var left: Int32 = 0
        try? context.pipeline.syncOperations.withUnsafeTransportIfAvailable(
            of: NIOBSDSocket.Handle.self
        ) { _ = ioctl($0, UInt(TIOCOUTQ), &left) }
        return Progress(passedOn: given - waiting(context), left: left)
    }
}
