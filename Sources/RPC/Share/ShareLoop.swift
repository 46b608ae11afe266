// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Logging

/// The share server's thread: polls the listeners and all connections. None of it waits for a peer, and while nothing is due
/// it sleeps.
final class ShareLoop {
    private struct Connection {
        let descriptor: Int32
        let peer: Peer
        let verdict: Admissions.Verdict
        var exchange: ShareExchange
        /// The request that its handler has.
        var call: Call?
    }

    private let server: ShareServer
    private let bell: Int32
    private var listeners: [Int32] = []
    private var connections: [UInt64: Connection] = [:]
    private var last: UInt64 = 0
    private var admissions: Admissions
    /// Connections from which on the next wait to be accepted.
    private let mostOpen: Int
    /// No connection is accepted before, for the system had no descriptor for it. CLOCK_MONOTONIC, nanoseconds.
    private var acceptsFrom: UInt64?
    private var isDraining = false
    /// Who connects is left to the next that listens.
    private var hasStopped = false
    private static let acceptedPerTurn = 16
    private static let pause: UInt64 = 100_000_000

    init(_ server: ShareServer, bell: Int32) {
        self.server = server
        self.bell = bell
        let configuration = server.configuration
        mostOpen = max(1, configuration.descriptors ?? ShareServer.descriptors)
        admissions = Admissions(
            connections: configuration.connections, perUser: configuration.connectionsPerUser,
            administrator: configuration.administrator.map { Account(uid: $0) },
            descriptors: mostOpen)
    }

    /// Does what has come about, having waited for it.
    ///
    /// - Returns: false when the server is closed.
    func turn() -> Bool {
        var order: [UInt64] = []
        var polled = [pollfd(fd: bell, events: Int16(POLLIN), revents: 0)]
        let accepts =
            !isDraining && !hasStopped && connections.count < mostOpen && acceptsFrom == nil
        if accepts { polled += listeners.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) } }
        let first = polled.count
        for (number, connection) in connections {
            order.append(number)
            polled.append(
                pollfd(
                    fd: connection.descriptor, events: Int16(connection.exchange.events), revents: 0
                ))
        }
        _ = poll(&polled, nfds_t(polled.count), timeout)
        if polled[0].revents != 0 { silenceBell() }
        let orders = server.takeOrders()
        listeners += orders.listeners
        hasStopped = orders.hasStopped
        for (number, answer) in orders.answers { send(answer, to: number) }
        for (number, place) in zip(order, polled[first...]) where place.revents != 0 {
            attend(to: number, Int32(place.revents))
        }
        if orders.isDraining, !isDraining {
            isDraining = true
            for listener in listeners { close(listener) }
            listeners = []
        } else if accepts {
            for place in polled[1..<first] where place.revents != 0 { accept(from: place.fd) }
        }
        expire()
        guard orders.isClosing else { return true }
        for number in Array(connections.keys) { end(number) }
        return false
    }

    /// Milliseconds until something is due, -1 for never.
    private var timeout: Int32 {
        let due =
            connections.values.compactMap(\.exchange.deadline) + (acceptsFrom.map { [$0] } ?? [])
        guard let first = due.min() else { return -1 }
        let now = cl_monotonic_nanoseconds()
        return first <= now ? 0 : Int32(clamping: (first - now) / 1_000_000 + 1)
    }

    private func silenceBell() {
        var bytes = [UInt8](repeating: 0, count: 256)
        while read(bell, &bytes, bytes.count) == bytes.count {}
    }

    private func expire() {
        let now = cl_monotonic_nanoseconds()
        if let from = acceptsFrom, from <= now { acceptsFrom = nil }
        for (number, connection) in connections {
            if let deadline = connection.exchange.deadline, deadline <= now { end(number) }
        }
    }

    // MARK: Connections

    private func accept(from listener: Int32) {
        for _ in 0..<Self.acceptedPerTurn where connections.count < mostOpen {
            var credentials = cl_credentials()
            guard let descriptor = server.accept(from: listener, &credentials) else {
                hasStopped = true
                return
            }
            guard descriptor >= 0 else {
                switch -descriptor {
                case EAGAIN: return
                case ECONNABORTED, EINTR: continue
                default: acceptsFrom = cl_monotonic_nanoseconds() &+ Self.pause
                }
                server.logger.warning(
                    "cannot accept a connection to the share socket: \(String(cString: strerror(-descriptor))), trying again"
                )
                return
            }
            enter(descriptor, Peer(credentials))
        }
    }

    private func enter(_ descriptor: Int32, _ peer: Peer) {
        let verdict = admissions.enter(peer.account)
        var (refusal, patience) = (RPCError?.none, server.configuration.idleTime)
        switch verdict {
        case .served: break
        case .refused(let error): (refusal, patience) = (error, server.configuration.refusedTime)
        case .closed:
            close(descriptor)
            return
        }
        last += 1
        connections[last] = Connection(
            descriptor: descriptor, peer: peer, verdict: verdict,
            exchange: ShareExchange(
                refusal: refusal, patience: patience, at: cl_monotonic_nanoseconds()))
        server.connectionsChanged(to: connections.count)
    }

    private func end(_ number: UInt64) {
        guard let connection = connections.removeValue(forKey: number) else { return }
        connection.call?.cancel()
        // A socket that is closed with unread datagrams takes from its peer the answer that it has not read yet.
        shutdown(connection.descriptor, Int32(SHUT_RD))
        discard(connection.descriptor)
        close(connection.descriptor)
        admissions.leave(connection.peer.account, connection.verdict)
        server.connectionsChanged(to: connections.count)
    }

    /// - Parameter events: what poll has told of the connection.
    private func attend(to number: UInt64, _ events: Int32) {
        guard let connection = connections[number] else { return }
        var action = ShareExchange.Action.nothing
        if events & connection.exchange.events & POLLIN != 0 {
            guard let received = receive(connection.descriptor) else { return }
            action = connections[number]!.exchange.receive(received)
            if connections[number]!.exchange.isOver { return end(number) }
        } else if events & (POLLHUP | POLLERR | POLLNVAL) != 0 {
            return end(number)
        } else if events & POLLOUT != 0 {
            action = connections[number]!.exchange.writable(at: cl_monotonic_nanoseconds())
        }
        switch action {
        case .nothing: break
        case .send(let answer): send(answer, to: number)
        case .handle(let request): handle(request, of: number)
        }
    }

    /// The next datagram; `nil` if there is none yet.
    private func receive(_ descriptor: Int32) -> ShareExchange.Received? {
        var bytes = [UInt8](repeating: 0, count: ShareDatagram.requestLimit)
        let count = cl_receive_datagram(descriptor, &bytes, bytes.count)
        switch count {
        case 0...:
            bytes.removeLast(bytes.count - Int(count))
            return .datagram(bytes)
        case -EAGAIN: return nil
        case -EMSGSIZE: return .tooLong
        case -EPROTO: return .withDescriptors
        default: return .end
        }
    }

    /// Reads what waits to be read, and forgets it. Makes no arrays: Swift 6.3 frees one that nobody uses before it is filled.
    private func discard(_ descriptor: Int32) {
        var byte: UInt8 = 0
        var count = 0
        repeat {
            count = Int(cl_receive_datagram(descriptor, &byte, 1))
        } while count >= 0 || count == -Int(EMSGSIZE) || count == -Int(EPROTO)
    }

    private func handle(_ request: ShareRequest, of number: UInt64) {
        guard let peer = connections[number]?.peer else { return }
        let now = cl_monotonic_nanoseconds()
        let call = Call(
            peer: peer, service: "", method: "Share", received: now,
            deadline: now &+ server.configuration.requestTime)
        connections[number]?.call = call
        server.handler(request, call) { [server] result in server.answer(number, result) }
    }

    private func send(_ answer: ShareAnswer, to number: UInt64) {
        guard let connection = connections[number] else { return }
        connections[number]?.call = nil
        let now = cl_monotonic_nanoseconds()
        let sent = withExtendedLifetime(answer.owner) {
            cl_send_descriptor(
                connection.descriptor, answer.bytes, answer.bytes.count, answer.descriptor)
        }
        switch sent {
        case 0...: connections[number]?.exchange.sent(answer, at: now)
        case -EAGAIN: connections[number]?.exchange.hold(answer, at: now)
        case -ETOOMANYREFS:
            let error = RPCError(
                .resourceExhausted, "as many descriptors are on their way as the system allows",
                reason: "TOO_MANY_DESCRIPTORS"
            ).retrying(after: 1_000_000_000)
            return send(ShareAnswer(.failure(error)), to: number)
        default: return end(number)
        }
        if connections[number]?.exchange.isOver == true { end(number) }
    }
}
