// SPDX-License-Identifier: Apache-2.0

import Glibc

/// One connection of the share socket as a value: requests are taken one by one, each is answered and its answer taken by the
/// reader before the next is looked at. So a connection never has more than one request in the daemon, and no more than a few
/// descriptors on their way.
struct ShareExchange {
    enum Phase {
        /// A request may come.
        case reading
        /// The handler has one.
        case handling
        /// There was no room for the answer yet.
        case sending(ShareAnswer)
        /// The answer is out; the next request is read when there is room for its answer.
        case settling
        case over
    }

    /// What came from the peer.
    enum Received {
        case datagram([UInt8])
        case tooLong
        case withDescriptors
        case end
    }

    /// What is to be done.
    enum Action {
        case nothing
        case handle(ShareRequest)
        case send(ShareAnswer)
    }

    private(set) var phase = Phase.reading
    /// There are too many connections: the first request is answered with this, and then it is closed.
    private let refusal: RPCError?
    /// Nanoseconds that the peer may keep silent or not read.
    private let patience: UInt64
    /// When the peer's time is up, on CLOCK_MONOTONIC in nanoseconds; `nil` while it waits for us.
    private(set) var deadline: UInt64?

    init(refusal: RPCError?, patience: UInt64, at now: UInt64) {
        self.refusal = refusal
        self.patience = patience
        deadline = now &+ patience
    }

    /// What to poll for, besides the end.
    var events: Int32 {
        switch phase {
        case .reading: POLLIN
        case .sending, .settling: POLLOUT
        case .handling, .over: 0
        }
    }

    var isOver: Bool { if case .over = phase { true } else { false } }

    mutating func receive(_ received: Received) -> Action {
        guard case .reading = phase else { return .nothing }
        deadline = nil
        phase = .handling
        func refuse(_ error: RPCError) -> Action {
            .send(ShareAnswer(.failure(error), isLast: true))
        }
        switch received {
        case .end:
            phase = .over
            return .nothing
        case .datagram, .tooLong, .withDescriptors:
            if let refusal { return refuse(refusal) }
        }
        switch received {
        case .datagram(let bytes):
            do throws(WireError) { return .handle(try ShareRequest(decoding: bytes)) } catch {
                return refuse(RPCError(error))
            }
        case .tooLong:
            return refuse(Self.malformed("it has more than \(ShareDatagram.requestLimit) bytes"))
        case .withDescriptors:
            return refuse(Self.malformed("it carries descriptors"))
        case .end: return .nothing
        }
    }

    private static func malformed(_ why: String) -> RPCError {
        RPCError(
            .invalidArgument, "the datagram is not a ShareRequest: \(why)",
            reason: "INVALID_MESSAGE")
    }

    /// The system has the answer.
    mutating func sent(_ answer: ShareAnswer, at now: UInt64) {
        phase = answer.isLast ? .over : .settling
        deadline = now &+ patience
    }

    /// There is no room for the answer: the reader is behind.
    mutating func hold(_ answer: ShareAnswer, at now: UInt64) {
        phase = .sending(answer)
        if deadline == nil { deadline = now &+ patience }
    }

    /// There is room for an answer.
    mutating func writable(at now: UInt64) -> Action {
        switch phase {
        case .sending(let answer): return .send(answer)
        case .settling:
            phase = .reading
            deadline = now &+ patience
            return .nothing
        case .reading, .handling, .over: return .nothing
        }
    }
}
