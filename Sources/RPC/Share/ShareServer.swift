// SPDX-License-Identifier: Apache-2.0
//
// Hands out descriptors on SOCK_SEQPACKET sockets, which ttrpc and NIO do not carry. One thread polls all of them and never waits
// for a peer; what a request means is its handler's to say. `ShareExchange` is one connection's protocol, `ShareLoop` the thread.

import CLinux
import Glibc
package import Logging
import NIOPosix
import Synchronization

/// Answers requests for descriptors on Unix sockets.
package final class ShareServer: Sendable {
    package struct Configuration: Sendable {
        /// Connections that are served. Those beyond are told so and closed; where descriptors would run out, the next wait to
        /// be accepted.
        package var connections = 128
        /// Of one user.
        package var connectionsPerUser = 32
        /// Who is never told that there are too many.
        package var administrator: UInt32? = 0
        /// How long a connection that is to be told so may keep silent. Nanoseconds.
        package var refusedTime: UInt64 = 5_000_000_000
        /// How long others may keep silent, or not read. Nanoseconds.
        package var idleTime: UInt64 = 60_000_000_000
        /// How long a handler has for an answer. Nanoseconds.
        package var requestTime: UInt64 = 30_000_000_000
        /// Descriptors for connections; `nil` asks the system.
        package var descriptors: Int?

        package init() {}
    }

    /// Answers a request, once, on any thread; must not wait, for it is called on the server's.
    package typealias Handler =
        @Sendable (ShareRequest, Call, @escaping @Sendable (Result<SharedFile, RPCError>) -> Void)
        -> Void

    /// What the thread is told when it is woken up.
    struct Orders {
        var listeners: [Int32] = []
        /// Answers, and the connections they are for.
        var answers: [(connection: UInt64, ShareAnswer)] = []
        /// Who connects is left to the next that listens.
        var hasStopped = false
        var isDraining = false
        var isClosing = false
    }

    private struct State {
        var orders = Orders()
        var sockets: [SocketPath] = []
        /// A pipe whose reading end the thread polls; `nil` before it is started and after it has ended.
        var bell: (reading: Int32, writing: Int32)?
        /// Since when no connection is open; `nil` while one is. CLOCK_MONOTONIC, nanoseconds.
        var idleSince: UInt64? = cl_monotonic_nanoseconds()
        var connections = 0
    }

    let configuration: Configuration
    let handler: Handler
    let logger: Logger
    private let state = Mutex(State())
    private let thread = NIOThreadPool(numberOfThreads: 1)
    /// Connections that may wait to be accepted: as many as in mmfreed-share.socket.
    private static let backlog: Int32 = 512

    package init(
        configuration: Configuration = .init(), logger: Logger, handler: @escaping Handler
    ) {
        self.configuration = configuration
        self.logger = logger
        self.handler = handler
    }

    /// Begins to accept connections.
    package func listen(on address: RPCServer.Address) throws(ListenError) {
        switch address {
        case .descriptor(let inherited):
            guard fcntl(inherited, F_SETFL, fcntl(inherited, F_GETFL) | O_NONBLOCK) == 0 else {
                throw .failed("\(address)", String(cString: strerror(errno)))
            }
            try start(listener: inherited)
        case .path(let path, let mode):
            let made = try SocketPath.listen(
                path, kind: SOCK_SEQPACKET, mode: mode, backlog: Self.backlog)
            state.withLock { $0.sockets.append(made.socket) }
            try start(listener: made.descriptor)
        }
    }

    private func start(listener: Int32) throws(ListenError) {
        let bell = state.withLock { state -> Int32 in
            state.orders.listeners.append(listener)
            if state.bell == nil {
                var ends: [Int32] = [-1, -1]
                guard pipe(&ends) == 0 else { return -1 }
                for end in ends {
                    _ = fcntl(end, F_SETFD, FD_CLOEXEC)
                    _ = fcntl(end, F_SETFL, O_NONBLOCK)
                }
                state.bell = (ends[0], ends[1])
                Self.ring(state)
                return ends[0]
            }
            Self.ring(state)
            return 0
        }
        guard bell >= 0 else { throw .failed("the share socket", String(cString: strerror(errno))) }
        guard bell > 0 else { return }
        thread.start()
        thread.submit { [self] _ in
            let loop = ShareLoop(self, bell: bell)
            while loop.turn() {}
        }
    }

    /// Since when no connection has been open, on CLOCK_MONOTONIC in nanoseconds; `nil` while one is.
    package var idleSince: UInt64? { state.withLock { $0.idleSince } }

    /// Accepts no more connections if none is open: who connects from now on waits for the next that listens on the same socket.
    ///
    /// - Returns: false if one is open.
    package func stopAcceptingIfIdle() -> Bool {
        state.withLock { state in
            if state.connections == 0 { state.orders.hasStopped = true }
            return state.orders.hasStopped
        }
    }

    /// Accepts connections again.
    package func resumeAccepting() {
        state.withLock { state in
            state.orders.hasStopped = false
            Self.ring(state)
        }
    }

    var openConnections: Int { state.withLock { $0.connections } }

    /// Accepts no more connections; those that are open go on.
    package func beginDrain() {
        let sockets = state.withLock { state in
            defer { state.sockets = [] }
            return state.sockets
        }
        // Before their descriptors are closed.
        for socket in sockets { socket.remove() }
        state.withLock { state in
            state.orders.isDraining = true
            Self.ring(state)
        }
    }

    /// Closes everything at once.
    package func close() {
        beginDrain()
        state.withLock { state in
            state.orders.isClosing = true
            Self.ring(state)
        }
        try? thread.syncShutdownGracefully()
        state.withLock { state in
            guard let bell = state.bell else { return }
            state.bell = nil
            Glibc.close(bell.reading)
            Glibc.close(bell.writing)
        }
    }

    private static func ring(_ state: State) {
        guard let bell = state.bell else { return }
        var byte: UInt8 = 0
        // A full pipe rings already.
        _ = write(bell.writing, &byte, 1)
    }

    // MARK: The thread

    func takeOrders() -> Orders {
        state.withLock { state in
            defer { (state.orders.listeners, state.orders.answers) = ([], []) }
            return state.orders
        }
    }

    /// Accepts the next connection, which counts from then on.
    ///
    /// - Returns: the descriptor or -errno; `nil` if no more are accepted.
    func accept(from listener: Int32, _ credentials: inout cl_credentials) -> Int32? {
        state.withLock { state in
            guard !state.orders.hasStopped else { return nil }
            let descriptor = cl_accept_datagrams(listener, &credentials)
            if descriptor >= 0 {
                state.connections += 1
                state.idleSince = nil
            }
            return descriptor
        }
    }

    func connectionsChanged(to count: Int) {
        state.withLock { state in
            if count == 0, state.connections > 0 { state.idleSince = cl_monotonic_nanoseconds() }
            if count > 0 { state.idleSince = nil }
            state.connections = count
        }
    }

    func answer(_ connection: UInt64, _ result: Result<SharedFile, RPCError>) {
        let answer = ShareAnswer(result)
        state.withLock { state in
            state.orders.answers.append((connection, answer))
            Self.ring(state)
        }
    }

    /// The most descriptors for connections: an eighth of those there may be, and no more than are needed.
    static var descriptors: Int { min(160, RPCServer.descriptorLimit / 8) }
}
