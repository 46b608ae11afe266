// SPDX-License-Identifier: Apache-2.0

import Glibc
import MMFree
import ModelStore
import SystemPackage

/// A session's state in a file: written and read part by part, for it may be larger than one would keep in memory.
enum StateFile {
    /// For a whole state: as long as the daemon allows, for whoever reads a pipe may be slow.
    private static let timeout = Duration.seconds(3600)

    /// Writes a session's state to a file, which appears whole or not at all; or to standard output for "-".
    ///
    /// - Returns: its bytes.
    static func save(
        _ session: String, to path: String, replacing: Bool, _ client: Client
    ) async throws -> Int {
        let progress = ProgressLine()
        var count = 0
        guard path != "-" else {
            for try await part in client.sessionState(session, timeout: timeout) {
                part.bytes.withUnsafeBytes { Terminal.write($0) }
                count += part.bytes.count
            }
            return count
        }
        var file = try OutputFile(FilePath(path), replacing: replacing)
        for try await part in client.sessionState(session, timeout: timeout) {
            try file.write(part.bytes, at: count)
            count += part.bytes.count
            progress.show(count, of: part.stateBytes, "saving \(session)")
        }
        try file.commit()
        return count
    }

    /// A new session out of a state in a file, or of standard input for "-".
    static func restore(
        _ path: String, name: String, model: String = "", timeToLive: Duration? = nil,
        _ client: Client
    ) async throws -> Session {
        try await client.restoreSession(
            from: Parts(path: path), name: name, model: model, timeToLive: timeToLive)
    }

    /// What is in a file, in parts; read while whoever takes them waits.
    private struct Parts: AsyncSequence, Sendable {
        let path: String

        func makeAsyncIterator() -> Iterator { Iterator(path: path) }

        struct Iterator: AsyncIteratorProtocol {
            let path: String
            private var input: Input?
            private let progress = ProgressLine()
            private var count = 0

            init(path: String) { self.path = path }

            mutating func next() async throws -> [UInt8]? {
                let input = try self.input ?? Input(path)
                self.input = input
                var part = [UInt8](repeating: 0, count: 1 << 18)
                let got = try part.withUnsafeMutableBytes { try input.read(into: $0) }
                guard got > 0 else {
                    progress.clear()
                    return nil
                }
                count += got
                if let size = input.size {
                    progress.show(count, of: size, "restoring \(input.name)")
                }
                part.removeLast(part.count - got)
                return part
            }
        }
    }
}
