// SPDX-License-Identifier: Apache-2.0

/// How people write the path of a Unix socket: PATH, unix:PATH, unix:///PATH. Daemon and clients read it alike.
package enum SocketSpelling {
    /// Bytes of a path that every program here can bind and connect to: SwiftNIO's limit, 4 below Linux's own.
    package static let limit = 103

    /// Why a text is no path of a socket.
    package struct Refusal: Error, Equatable, CustomStringConvertible {
        package let description: String
    }

    package static func path(_ text: String) throws(Refusal) -> String {
        func refuse(_ why: String) -> Refusal { Refusal(description: why) }
        var path = text[...]
        let scheme = text.prefix { $0 != ":" }
        if text.hasPrefix("unix:///") {
            path = text.dropFirst("unix://".count)
        } else if text.hasPrefix("unix://") {
            throw refuse(
                "'\(text)': unix:// takes an absolute path, as in unix:///run/mmfreed/mmfreed.sock; write the path alone"
            )
        } else if text.hasPrefix("unix:") {
            path = text.dropFirst("unix:".count)
        } else if text.dropFirst(scheme.count).hasPrefix("://") || text.hasPrefix("unix-") {
            throw refuse(
                "'\(text)': the daemon listens on a Unix socket only; write the path alone")
        }
        guard !path.hasPrefix("@") else {
            throw refuse(
                "'\(text)' is an abstract socket; the daemon listens at a path only (for a file of this name: ./\(path))"
            )
        }
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw refuse("it is empty: write the path of the daemon's socket")
        }
        guard path.utf8.count <= limit else {
            throw refuse(
                "too long: a socket's path has at most \(limit) bytes, this has \(path.utf8.count); "
                    + "use a relative path or a symbolic link to its directory")
        }
        return String(path)
    }
}
