// SPDX-License-Identifier: Apache-2.0

import CSystemd
import Glibc

/// A listening socket the service manager made for us.
package struct InheritedSocket: Sendable, Equatable {
    package let descriptor: Int32
    /// `FileDescriptorName=` of the socket unit.
    package let name: String

    /// Takes over what was handed to this process, and clears the environment that says so: children get none of it. Call it
    /// once, before there are other threads.
    ///
    /// - Throws: `InheritedSocketError` if something else than a listening stream socket of the Unix domain was handed over.
    package static func takeAll() throws(InheritedSocketError) -> [InheritedSocket] {
        var names: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
        let count = sd_listen_fds_with_names(1, &names)
        if count < 0 { throw InheritedSocketError(descriptor: -1, reason: "errno \(-count)") }
        defer {
            for index in 0..<Int(count) { free(names?[index]) }
            free(names)
        }
        var sockets: [InheritedSocket] = []
        for index in 0..<count {
            // SD_LISTEN_FDS_START
            let descriptor = 3 + index
            guard sd_is_socket_unix(descriptor, Int32(SOCK_STREAM.rawValue), 1, nil, 0) > 0 else {
                throw InheritedSocketError(
                    descriptor: descriptor, reason: "not a listening Unix stream socket")
            }
            let name = names?[Int(index)].map { String(cString: $0) } ?? ""
            sockets.append(InheritedSocket(descriptor: descriptor, name: name))
        }
        return sockets
    }
}

/// The service manager handed over something that cannot be listened on.
package struct InheritedSocketError: Error, CustomStringConvertible {
    package let descriptor: Int32
    package let reason: String

    package var description: String {
        "inherited descriptor \(descriptor): \(reason); look at mmfreed.socket"
    }
}
