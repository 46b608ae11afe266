// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import NIOCore
import NIOPosix

/// Who is at the other end of a connection.
package struct Caller: Sendable, Equatable {
    package enum Transport: Sendable {
        case unix, tcp
    }

    package var transport: Transport
    /// The user, if the kernel says.
    package var uid: UInt32?

    package init(_ transport: Transport, uid: UInt32?) {
        self.transport = transport
        self.uid = uid
    }

    static func of(_ channel: any Channel) -> EventLoopFuture<Caller> {
        guard channel.localAddress?.protocol == .unix,
            let socket = channel as? any SocketOptionProvider
        else { return channel.eventLoop.makeSucceededFuture(ofTCP(channel)) }
        let credentials: EventLoopFuture<cl_credentials> = socket.unsafeGetSocketOption(
            level: .socket, name: .init(rawValue: SO_PEERCRED))
        return credentials.map { Caller(.unix, uid: $0.uid) }
    }

    private static func ofTCP(_ channel: any Channel) -> Caller {
        guard let client = TCPEnd(channel.remoteAddress), let server = TCPEnd(channel.localAddress),
            let uid = try? SocketTable.owner(client: client, server: server)
        else { return Caller(.tcp, uid: nil) }
        return Caller(.tcp, uid: uid)
    }
}
