// SPDX-License-Identifier: Apache-2.0

import CSystemd
import Glibc

/// A listening socket the service manager made for us.
package struct InheritedSocket: Sendable, Equatable {
    /// What a socket is for; `FileDescriptorName=` of its unit says so.
    package enum Use: Sendable {
        case api

        /// - Returns: `nil` for a name that means nothing to us.
        static func named(_ name: String) -> Use? {
            switch name {
            // "unknown" if there are no names at all, the unit's own if it gives none.
            case "api", "", "unknown": .api
            case _ where name.hasSuffix(".socket"): .api
            default: nil
            }
        }
    }

    package let descriptor: Int32
    package let use: Use

    /// What was handed over to this process.
    package struct Handover: Sendable {
        /// Those that can be listened on.
        package var sockets: [InheritedSocket] = []
        /// What is wrong with the others, which are closed.
        package var complaints: [String] = []

        /// Takes a descriptor over, or closes it.
        mutating func take(_ descriptor: Int32, name: String) {
            let use = InheritedSocket.Use.named(name)
            if let use, isListening(descriptor) {
                sockets.append(InheritedSocket(descriptor: descriptor, use: use))
                return
            }
            let reason =
                use == nil
                ? "no use for a socket of that name is known; FileDescriptorName=api is"
                : "not a listening Unix stream socket"
            complaints.append("inherited descriptor \(descriptor) '\(name)': \(reason)")
            close(descriptor)
        }

        private func isListening(_ descriptor: Int32) -> Bool {
            sd_is_socket_unix(descriptor, Int32(SOCK_STREAM.rawValue), 1, nil, 0) > 0
        }
    }

    /// Takes over what was handed to this process, and clears the environment that says so: children get none of it. Call it
    /// once, before there are other threads.
    ///
    /// - Throws: `InheritedSocketError` if there was something and none of it can be listened on.
    package static func takeAll() throws(InheritedSocketError) -> Handover {
        var names: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
        let count = sd_listen_fds_with_names(1, &names)
        if count < 0 {
            throw InheritedSocketError("LISTEN_FDS: \(String(cString: strerror(-count)))")
        }
        defer {
            for index in 0..<Int(count) { free(names?[index]) }
            free(names)
        }
        var handover = Handover()
        for index in 0..<count {
            // SD_LISTEN_FDS_START
            handover.take(3 + index, name: names?[Int(index)].map { String(cString: $0) } ?? "")
        }
        guard count == 0 || !handover.sockets.isEmpty else {
            throw InheritedSocketError(handover.complaints.joined(separator: "; "))
        }
        return handover
    }
}

/// The service manager handed over nothing that can be listened on.
package struct InheritedSocketError: Error, CustomStringConvertible {
    let reason: String

    init(_ reason: String) { self.reason = reason }

    package var description: String {
        "\(reason). Correct mmfreed.socket: it must listen with ListenStream=/PATH and FileDescriptorName=api"
    }
}
