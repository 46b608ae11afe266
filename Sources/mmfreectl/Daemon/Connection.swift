// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import RPC
import SystemPackage

/// How to reach the daemon.
struct Connection: ParsableArguments {
    @Option(help: "The daemon's socket. Default: $MMFREED_SOCKET, or /run/mmfreed/mmfreed.sock.")
    var socket: String?

    @Option(help: "Seconds a request may take, waiting included. Default: the daemon's.")
    var timeout: Double?

    func validate() throws {
        if let timeout, !(timeout > 0 && timeout < 1e9) {
            throw ValidationError("--timeout is a number of seconds above 0")
        }
    }

    var path: String {
        socket ?? ProcessInfo.processInfo.environment["MMFREED_SOCKET"]
            ?? "/run/mmfreed/mmfreed.sock"
    }

    private var nanoseconds: UInt64? { timeout.map { UInt64($0 * 1e9) } }

    func inference() async throws(ClientError) -> InferenceClient {
        InferenceClient(try await RPCClient.connect(path: path), timeout: nanoseconds)
    }

    func control() async throws(ClientError) -> ControlClient {
        ControlClient(try await RPCClient.connect(path: path), timeout: nanoseconds)
    }
}

/// Which model.
struct ModelOption: ParsableArguments {
    @Option(name: [.short, .long], help: "The model's name; not needed when there is one.")
    var model = ""
}

/// Text from the command line, or from standard input when there is none or it is "-".
func textArgument(_ text: String?) throws -> String {
    if let text, text != "-" { return text }
    if text == nil, isatty(0) == 1 {
        Terminal.note("(reading from the terminal; end with Ctrl-D)")
    }
    guard let text = String(validating: try standardInput(), as: UTF8.self) else {
        throw Failure("standard input is not UTF-8 text", .data)
    }
    return text
}

private func standardInput() throws -> [UInt8] {
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 64 << 10)
    while true {
        do {
            let count = try part.withUnsafeMutableBytes {
                try FileDescriptor.standardInput.read(into: $0)
            }
            guard count > 0 else { return bytes }
            bytes += part[..<count]
        } catch { throw Failure("cannot read standard input: \(error)", .io) }
    }
}

/// "1,415,310".
struct TokenList: ExpressibleByArgument, Sendable {
    var ids: [UInt32]

    init?(argument: String) {
        let parts = argument.split(separator: ",", omittingEmptySubsequences: true)
        ids = parts.compactMap { UInt32($0.trimmingCharacters(in: .whitespaces)) }
        guard ids.count == parts.count, !ids.isEmpty else { return nil }
    }
}
