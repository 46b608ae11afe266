// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
package import Logging
import NIOCore
import NIOPosix
import Synchronization

/// Answers calls on Unix sockets.
package final class RPCServer: Sendable {
    package struct Configuration: Sendable {
        /// Connections that are served. Those beyond are told so and closed; where descriptors would run out, the next wait to
        /// be accepted.
        package var connections = 256
        /// Of one user.
        package var connectionsPerUser = 64
        /// Who is never told that there are too many.
        package var administrator: UInt32? = 0
        /// How long a connection that is to be told so may keep silent. Nanoseconds.
        package var refusedTime: Int64 = 5_000_000_000
        /// How long answers wait for a reader that takes nothing of them. Nanoseconds.
        package var slowReaderTimeout: UInt64 = 30_000_000_000
        /// How long a frame may stay incomplete. Nanoseconds.
        package var frameTime: UInt64 = 30_000_000_000
        package var bytes = Accounts.Limits()
        /// Descriptors for connections; `nil` asks the system.
        package var descriptors: Int?
        /// The user whose connections may speak for others; `nil` for none.
        package var gateway: UInt32?
        package var streamsPerConnection = 64
        /// Nanoseconds.
        package var defaultTimeout: UInt64 = 300_000_000_000
        package var maximumTimeout: UInt64 = 3_600_000_000_000
        /// Answers every call with this, when the daemon cannot do its work.
        package var refusal: RPCError?

        package init() {}

        /// The time a call gets, never endless: the default for 0, none for a negative time, which is over already.
        func timeout(asked: Int64) -> UInt64 {
            asked == 0
                ? min(defaultTimeout, maximumTimeout) : min(UInt64(max(0, asked)), maximumTimeout)
        }
    }

    /// Where to listen.
    package enum Address: Sendable, Equatable {
        /// A socket to make at a path, with these permissions.
        case path(String, mode: UInt16)
        /// A listening socket somebody else made.
        case descriptor(Int32)
    }

    let configuration: Configuration
    let services: Services
    let logger: Logger
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    /// Where handlers run: opening a model or reading a long prompt must not hold up other connections.
    private let handlers = NIOThreadPool(numberOfThreads: RPCServer.handlerThreads)
    static let handlerThreads = 4
    /// Handlers that may work for one account at a time.
    static let handlersPerAccount = 2
    /// Where quick methods run.
    private let quickHandlers = NIOThreadPool(numberOfThreads: 1)
    let accounts: Accounts
    /// Connections that may wait to be accepted: as many as in mmfreed.socket.
    private static let backlog: Int32 = 512

    private struct State {
        var listeners: [any Channel] = []
        var connections: [ObjectIdentifier: any Channel] = [:]
        var admissions: Admissions
        var queue = CallQueue<Waiting>(most: RPCServer.handlersPerAccount)
        var quickQueue = CallQueue<Waiting>(most: 1)
        var sockets: [SocketPath] = []
        var calls = 0
        var unread = 0
        var begun: UInt64 = 0
        var isDraining = false
        var isPaused = false
        /// What the listeners have been told of it.
        var accepts = true
        /// Since when no connection is open; `nil` while one is. CLOCK_MONOTONIC, nanoseconds.
        var idleSince: UInt64? = cl_monotonic_nanoseconds()
    }
    private let state: Mutex<State>
    /// Connections from which on the next wait to be accepted.
    private let mostOpen: Int

    /// - Parameter accounts: who holds what, where others than the server charge them, too.
    package init(
        services: Services, configuration: Configuration = .init(), accounts: Accounts? = nil,
        logger: Logger
    ) {
        self.services = services
        self.configuration = configuration
        self.logger = logger
        mostOpen = configuration.descriptors ?? Self.spareDescriptors
        let administrator = configuration.administrator.map { Account(uid: $0) }
        self.accounts = accounts ?? Accounts(configuration.bytes)
        self.accounts.onRelief { [handlers] in handlers.submit { _ in cl_release_memory() } }
        state = Mutex(
            State(
                admissions: Admissions(
                    connections: configuration.connections,
                    perUser: configuration.connectionsPerUser,
                    administrator: administrator, descriptors: mostOpen)))
    }

    /// Begins to accept connections. Not to be called on an event loop, as neither is `close`.
    package func listen(on address: Address) throws(ListenError) {
        handlers.start()
        quickHandlers.start()
        let bootstrap = ServerBootstrap(group: group)
            .childChannelInitializer { [self] channel in accept(channel) }
        do {
            let descriptor: Int32
            switch address {
            case .descriptor(let inherited): descriptor = inherited
            case .path(let path, let mode):
                let made = try SocketPath.listen(path, mode: mode, backlog: Self.backlog)
                descriptor = made.descriptor
                state.withLock { $0.sockets.append(made.socket) }
            }
            let channel = try bootstrap.withBoundSocket(descriptor).wait()
            state.withLock { $0.listeners.append(channel) }
            // NIO has just listened with a shorter queue, whatever was asked for. The second call only sets its length.
            Glibc.listen(descriptor, Self.backlog)
        } catch let error as ListenError {
            throw error
        } catch {
            throw .failed("\(address)", "\(error)")
        }
    }

    /// Calls there have been in all.
    package var callsBegun: UInt64 { state.withLock { $0.begun } }

    /// Since when no connection has been open, on CLOCK_MONOTONIC in nanoseconds; `nil` while one is.
    package var idleSince: UInt64? { state.withLock { $0.idleSince } }

    /// Calls that are not answered yet, but for those that began while the server drained.
    package var openCalls: Int { state.withLock { $0.calls } }

    /// Complete answers of which the system does not have the last byte yet: their readers are behind, or do not read at all.
    package var unreadAnswers: Int { state.withLock { $0.unread } }

    var openConnections: Int { state.withLock { $0.connections.count } }
    /// Whether a connection that comes now is accepted, or waits for one that ends.
    var acceptsConnections: Bool { state.withLock { $0.accepts } }
    /// No call waits for a handler, nor has one.
    var isHandlingNothing: Bool { state.withLock { $0.queue.isIdle && $0.quickQueue.isIdle } }
    var isDraining: Bool { state.withLock { $0.isDraining } }

    /// Accepts no more connections and refuses new calls but those that start no work; those under way go on.
    package func beginDrain() {
        let (listeners, sockets) = state.withLock { state in
            state.isDraining = true
            defer {
                state.listeners = []
                state.sockets = []
            }
            return (state.listeners, state.sockets)
        }
        // Before their descriptors are closed.
        for socket in sockets { socket.remove() }
        for listener in listeners { listener.close(promise: nil) }
    }

    /// Accepts no more connections if none is open: who connects from now on waits for the next that listens on the same socket.
    /// Not to be called on an event loop.
    ///
    /// - Returns: false if one is open.
    package func stopAcceptingIfIdle() -> Bool {
        // On the loop that accepts, so none comes in between.
        let stopped = group.next().submit { [self] in
            let (isIdle, listeners) = state.withLock { ($0.connections.isEmpty, $0.listeners) }
            guard isIdle else { return false }
            for listener in listeners { _ = listener.setOption(.autoRead, value: false) }
            return true
        }
        return (try? stopped.wait()) ?? true
    }

    /// Closes everything at once.
    package func close() {
        beginDrain()
        let connections = state.withLock { Array($0.connections.values) }
        for connection in connections { try? connection.close().wait() }
        try? handlers.syncShutdownGracefully()
        try? quickHandlers.syncShutdownGracefully()
        try? group.syncShutdownGracefully()
    }

    /// A call that waits for a handler.
    struct Waiting: Sendable {
        let call: Call
        let isQuick: Bool
        /// What its connection's reader has not taken yet.
        let backlog: Backlog
        /// Given `false` when the server is closed.
        let body: @Sendable (Bool) -> Void
    }

    /// Runs a call's body where it may block, when its turn has come.
    func handle(_ waiting: Waiting) {
        let queue = waiting.isQuick ? \State.quickQueue : \State.queue
        state.withLock { $0[keyPath: queue].append(waiting, of: waiting.call.peer.account) }
        (waiting.isQuick ? quickHandlers : handlers).submit { [self] in
            handleAll(queue, isOpen: $0 == .active)
        }
    }

    /// Handles calls until none may run. Whoever ends a call looks for the next, so a call that may run never waits for a free
    /// handler. A call whose caller has gone is passed over; one whose reader is behind waits until it has caught up.
    private func handleAll(
        _ queue: any WritableKeyPath<State, CallQueue<Waiting>> & Sendable, isOpen: Bool
    ) {
        while let next = state.withLock({ $0[keyPath: queue].next() }) {
            let isHeld =
                isOpen && !next.call.isCancelled && next.backlog.hold({ [self] in handle(next) })
            if !isHeld, !next.call.isCancelled { next.body(isOpen) }
            state.withLock { $0[keyPath: queue].finish(next.call.peer.account) }
        }
    }

    /// Runs `body` on a loop after some time.
    package func after(milliseconds: Int64, _ body: @escaping @Sendable () -> Void) {
        group.next().scheduleTask(in: .milliseconds(milliseconds), body)
    }

    // MARK: Connections

    private func accept(_ channel: any Channel) -> EventLoopFuture<Void> {
        guard let socket = channel as? any SocketOptionProvider else {
            return channel.eventLoop.makeFailedFuture(
                ListenError.failed("a connection", "not a socket"))
        }
        let credentials: EventLoopFuture<cl_credentials> = socket.unsafeGetSocketOption(
            level: .socket, name: .init(rawValue: SO_PEERCRED))
        return credentials.flatMapThrowing { [self] credentials in
            let peer = Peer(credentials)
            let verdict = enter(channel, peer.account)
            channel.closeFuture.whenComplete { [self] _ in leave(channel, peer.account, verdict) }
            let refusal: RPCError?
            switch verdict {
            case .served: refusal = nil
            case .refused(let error): refusal = error
            case .closed: throw TurnedAway()
            }
            try channel.pipeline.syncOperations.addHandlers([
                readerWatch(of: peer),
                ServerConnection(server: self, peer: peer, refusal: refusal),
            ])
        }
    }

    private struct TurnedAway: Error {}

    private func readerWatch(of peer: Peer) -> ReaderWatch {
        ReaderWatch(patience: configuration.slowReaderTimeout) { [self] in
            logger.debug(
                "a peer does not read what it is answered, closing its connection",
                metadata: ["uid": "\(peer.uid)", "pid": "\(peer.pid)"])
        }
    }

    private func enter(_ channel: any Channel, _ account: Account) -> Admissions.Verdict {
        defer { pauseOrResume() }
        return state.withLock { state in
            state.connections[ObjectIdentifier(channel)] = channel
            state.idleSince = nil
            return state.admissions.enter(account)
        }
    }

    private func leave(_ channel: any Channel, _ account: Account, _ verdict: Admissions.Verdict) {
        state.withLock { state in
            state.connections[ObjectIdentifier(channel)] = nil
            if state.connections.isEmpty { state.idleSince = cl_monotonic_nanoseconds() }
            state.admissions.leave(account, verdict)
        }
        pauseOrResume()
    }

    /// Stops accepting while descriptors are short: a server that has none left would try for ever.
    private func pauseOrResume() {
        let (isFull, listeners) = state.withLock { state in
            let isFull = state.connections.count >= mostOpen
            defer { state.isPaused = isFull }
            return (isFull, isFull == state.isPaused ? [] : state.listeners)
        }
        for listener in listeners {
            listener.setOption(.autoRead, value: !isFull).whenComplete { [self] _ in
                state.withLock { $0.accepts = !isFull }
            }
        }
    }

    private static var spareDescriptors: Int {
        max(1, descriptorLimit - reserve - ShareServer.descriptors)
    }

    /// Descriptors this process may have.
    static var descriptorLimit: Int {
        var limit = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        return Int(clamping: limit.rlim_cur)
    }

    /// Descriptors for everything but connections of both servers, and for those one turn of the loop may accept too many.
    private static let reserve = 48

    static var draining: RPCError {
        RPCError(.unavailable, "the daemon is stopping", reason: "DRAINING")
            .retrying(after: 1_000_000_000)
    }

    static var tooLate: RPCError {
        RPCError(
            .deadlineExceeded, "the deadline passed while the call was waiting to be handled",
            reason: "DEADLINE")
    }

    /// - Parameter written: completes when the system has all of the answer, or never will.
    func answer(isOnItsWay written: EventLoopFuture<Void>) {
        state.withLock { $0.unread += 1 }
        written.whenComplete { [self] _ in state.withLock { $0.unread -= 1 } }
    }

    /// - Returns: whether it is one of the open calls, and `callEnded` is to be told of its end.
    func callBegan() -> Bool {
        state.withLock { state in
            state.begun += 1
            if !state.isDraining { state.calls += 1 }
            return !state.isDraining
        }
    }

    func callEnded() { state.withLock { $0.calls -= 1 } }
}
