// SPDX-License-Identifier: Apache-2.0

import MMFree

/// What a shell offers for a half-written word, as far as the daemon knows it: quickly, and quietly when there is none.
enum Completion {
    static func models(_ words: [String]) async -> [String] {
        await ask(words) { try await $0.models().map(\.name) }
    }

    static func sessions(_ words: [String]) async -> [String] {
        await ask(words) { try await $0.sessions().map(\.id) }
    }

    static func requests(_ words: [String]) async -> [String] {
        await ask(words) { try await $0.status().requests.map(\.requestID) }
    }

    /// - Parameter words: the command line so far; it may name the socket.
    private static func ask(
        _ words: [String], _ question: @escaping @Sendable (Client) async throws -> [String]
    ) async -> [String] {
        let socket = words.firstIndex(of: "--socket").flatMap {
            $0 + 1 < words.count ? words[$0 + 1] : nil
        }
        return await within(.seconds(1)) {
            try await question(Connection.client(socket, patience: .zero))
        } ?? []
    }
}

/// What `body` returns, or `nil` if it fails or takes longer.
func within<T: Sendable>(
    _ limit: Duration, _ body: @escaping @Sendable () async throws -> T
) async -> T? {
    await withTaskGroup(of: T?.self) { group in
        group.addTask { try? await body() }
        group.addTask {
            try? await Task.sleep(for: limit)
            return nil
        }
        defer { group.cancelAll() }
        return await group.next() ?? nil
    }
}
