// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

/// How to reach the daemon.
struct Connection: ParsableArguments {
    @Option(
        help:
            "The daemon's socket. Default: $MMFREED_SOCKET, or /run/mmfreed/mmfreed.sock, or $XDG_RUNTIME_DIR/mmfreed.sock.",
        completion: .file())
    var socket: String?

    @Option(
        parsing: .unconditional,
        help: "Seconds a request may take, waiting included. Default: the daemon's.")
    var timeout: Double?

    func validate() throws {
        if let timeout, !(timeout > 0 && timeout < 1e9) {
            throw ValidationError("--timeout is \(timeout): seconds, above 0 and below 1e9")
        }
    }

    /// A client whose calls have the time that was given.
    func client() -> Client { Self.client(socket, timeout: timeout.map { .seconds($0) }) }

    /// - Parameter patience: how long to wait for a daemon that is just being started.
    static func client(
        _ socket: String?, timeout: Duration? = nil, patience: Duration = .seconds(2)
    ) -> Client {
        var options = Client.Options(timeout: timeout)
        options.patience = patience
        return Client(options) { () throws(MMFreeError) in
            try SocketChoice(given: socket, name: "--socket")
        }
    }
}

/// Which model.
struct ModelOption: ParsableArguments {
    @Option(
        name: [.customShort("m"), .customLong("model")], parsing: .unconditional,
        help: "The model's name. Default: $MMFREED_MODEL, or the daemon's default model.",
        completion: .custom { words, _, _ in await Completion.models(words) })
    var name: String?

    var model: String { name ?? environmentVariable("MMFREED_MODEL") ?? "" }
}

/// Token ids as `tokenize` and `generate` write them: 1,415,310 or "1 415 310" or [1,415,310].
struct TokenList: ExpressibleByArgument, Sendable {
    var ids: [UInt32]

    init?(argument: String) {
        var text = argument[...]
        while text.last?.isWhitespace == true { text.removeLast() }
        if text.first == "[", text.last == "]" { text = text.dropFirst().dropLast() }
        let parts = text.split { $0 == "," || $0.isWhitespace }
        ids = parts.compactMap { UInt32($0) }
        guard ids.count == parts.count, !ids.isEmpty else { return nil }
    }
}
