// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import RPC

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

    private var nanoseconds: UInt64? { timeout.map { max(1, UInt64($0 * 1e9)) } }

    func inference() async throws -> InferenceClient {
        InferenceClient(try await Self.connect(socket), timeout: nanoseconds)
    }

    /// These calls wait for nobody else's: a daemon that takes longer than ten seconds is not well.
    func control() async throws -> ControlClient {
        ControlClient(try await Self.connect(socket), timeout: nanoseconds ?? 10_000_000_000)
    }

    /// - Parameter patience: how long to wait for a daemon that is just being started.
    static func connect(
        _ socket: String?, patience: Duration = .seconds(2)
    ) async throws -> RPCClient {
        let choice = try SocketChoice(option: socket, environment: environment)
        let limit = ContinuousClock.now + patience
        while true {
            var problems: [ClientError] = []
            for path in choice.paths {
                do throws(ClientError) { return try await RPCClient.connect(path: path) } catch {
                    problems.append(error)
                }
            }
            let mayCome = problems.contains {
                switch $0 {
                case .noSocket(let path), .refused(let path): SocketChoice.fault(of: path) == nil
                default: false
                }
            }
            guard mayCome, ContinuousClock.now < limit else { throw choice.failure(problems) }
            try await Task.sleep(for: .milliseconds(20))
        }
    }
}

/// Which model.
struct ModelOption: ParsableArguments {
    @Option(
        name: [.customShort("m"), .customLong("model")],
        help: "The model's name. Default: $MMFREED_MODEL, or the daemon's default model.",
        completion: .custom { words, _, _ in await Completion.models(words) })
    var name: String?

    var model: String { name ?? environment("MMFREED_MODEL") ?? "" }
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
