// SPDX-License-Identifier: Apache-2.0

import CSystemd
import Glibc

/// A listening socket the service manager made for us.
package struct InheritedSocket: Sendable, Equatable {
    /// What a socket is for; `FileDescriptorName=` of its unit says so.
    package enum Use: String, Sendable, CaseIterable {
        /// Calls.
        case api
        /// Descriptors of models.
        case share

        var type: __socket_type { self == .api ? SOCK_STREAM : SOCK_SEQPACKET }
        var kind: String { self == .api ? "stream" : "sequential-packet" }

        /// - Returns: `nil` for a name that means nothing to us.
        static func named(_ name: String, _ descriptor: Int32) -> Use? {
            switch name {
            // "unknown" if there are no names at all, the unit's own if it gives none.
            case "", "unknown": isListening(descriptor, .share) ? .share : .api
            case _ where name.hasSuffix(".socket"): isListening(descriptor, .share) ? .share : .api
            default: Use(rawValue: name)
            }
        }
    }

    private static func isListening(_ descriptor: Int32, _ use: Use) -> Bool {
        sd_is_socket_unix(descriptor, Int32(use.type.rawValue), 1, nil, 0) > 0
    }

    /// What the manager keeps the sessions' memory under.
    package static let memoryName = "mmfreed-sessions"

    package let descriptor: Int32
    package let use: Use

    /// What was handed over to this process.
    package struct Handover: Sendable {
        /// Those that can be listened on.
        package var sockets: [InheritedSocket] = []
        /// A file in memory that an earlier process had the manager keep (`Notifier.keep`).
        package var memory: Int32?
        /// What is wrong with the others, which are closed.
        package var complaints: [String] = []

        /// Takes a descriptor over, or closes it.
        mutating func take(_ descriptor: Int32, name: String) {
            if name == InheritedSocket.memoryName, memory == nil {
                memory = descriptor
                return
            }
            let use = Use.named(name, descriptor)
            if let use, isListening(descriptor, use) {
                sockets.append(InheritedSocket(descriptor: descriptor, use: use))
                return
            }
            let reason =
                use.map { "not a listening Unix \($0.kind) socket" }
                ?? "no use for a socket of that name is known; FileDescriptorName=api and share are"
            complaints.append("inherited descriptor \(descriptor) '\(name)': \(reason)")
            close(descriptor)
        }
    }

    /// Takes over what was handed to this process, and clears the environment that says so: children get none of it. Call it
    /// once, before there are other threads.
    ///
    /// - Throws: `InheritedSocketError` if there was something and none of it is a socket for calls.
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
        let isOnlyMemory = count == 1 && handover.memory != nil
        guard count == 0 || isOnlyMemory || handover.sockets.contains(where: { $0.use == .api })
        else {
            let complaints = handover.complaints
            throw InheritedSocketError(
                complaints.isEmpty
                    ? "no socket for calls was handed over" : complaints.joined(separator: "; "))
        }
        return handover
    }
}

extension InheritedSocket {
    /// Takes over the listening stream sockets of any family that were handed to this process, whatever their names.
    ///
    /// - Throws: `InheritedSocketError` if something else was.
    package static func takeStreams() throws(InheritedSocketError) -> [Int32] {
        let count = sd_listen_fds(1)
        if count < 0 {
            throw InheritedSocketError("LISTEN_FDS: \(String(cString: strerror(-count)))")
        }
        // SD_LISTEN_FDS_START
        let descriptors = (0..<count).map { 3 + $0 }
        for descriptor in descriptors
        where sd_is_socket(descriptor, AF_UNSPEC, Int32(SOCK_STREAM.rawValue), 1) <= 0 {
            throw InheritedSocketError(
                "inherited descriptor \(descriptor) is no listening stream socket",
                advice: "Correct the socket unit: it must listen with ListenStream=")
        }
        return descriptors
    }
}

/// The service manager handed over nothing that can be listened on.
package struct InheritedSocketError: Error, CustomStringConvertible {
    let reason: String
    let advice: String

    init(
        _ reason: String,
        advice: String =
            "Correct mmfreed.socket: it must listen with ListenStream=/PATH and FileDescriptorName=api"
    ) {
        self.reason = reason
        self.advice = advice
    }

    package var description: String { "\(reason). \(advice)" }
}
