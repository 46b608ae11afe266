// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CLinux
import FoundationEssentials
import Glibc
import SystemPackage

/// Starts a process for each account, all at the same time, and reads what their clients saw.
struct LoadRun {
    let load: LoadOptions
    /// Users; empty for the caller alone.
    let accounts: [String]
    /// The daemon and the model, as a command line.
    let target: [String]

    /// All clients at once.
    func together() throws -> [LoadSample] {
        let users = accounts.isEmpty ? [nil] : accounts.map { Optional($0) }
        let start = cl_monotonic_nanoseconds() + 1_000_000_000 + UInt64(users.count) * 100_000_000
        var children: [LoadProcess] = []
        for (index, user) in users.enumerated() {
            // Clients are spread over the accounts as evenly as they can be.
            let clients = load.clients / users.count + (index < load.clients % users.count ? 1 : 0)
            guard clients > 0 else { continue }
            let rate = load.rate.map { $0 * Double(clients) / Double(load.clients) }
            children.append(
                try LoadProcess(
                    user: user,
                    ["bench-load", "--account", user ?? "\(getuid())", "--start", "\(start)"]
                        + load.arguments(
                            clients: clients, requests: load.requests, rate: rate,
                            seed: load.loadSeed &+ UInt64(index)) + target))
        }
        return try children.flatMap { try $0.samples() }
    }

    /// One client, one request after the other.
    func alone() throws -> [LoadSample] {
        try LoadProcess(
            user: accounts.first,
            ["bench-load", "--account", accounts.first ?? "\(getuid())"]
                + load.arguments(
                    clients: 1, requests: min(load.requests, 4), rate: nil, seed: ~load.loadSeed)
                + target
        ).samples()
    }
}

/// This program in a process of its own, perhaps as another user.
final class LoadProcess {
    private let output: FileDescriptor
    private let child: pid_t

    init(user: String?, _ arguments: [String]) throws {
        let program = try Self.program()
        var words = [program] + arguments
        if let user { words = try Self.setpriv(user) + words }
        let pipe = try FileDescriptor.pipe()
        for end in [pipe.readEnd, pipe.writeEnd] { _ = fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, pipe.writeEnd.rawValue, 1)
        var strings = words.map { strdup($0) } + [nil]
        defer { for string in strings { free(string) } }
        var child: pid_t = 0
        let problem = posix_spawnp(&child, words[0], &actions, nil, &strings, environ)
        try pipe.writeEnd.close()
        guard problem == 0 else {
            try? pipe.readEnd.close()
            throw Failure("cannot start \(words[0]): \(Errno(rawValue: problem))", .temporary)
        }
        (output, self.child) = (pipe.readEnd, child)
    }

    deinit { try? output.close() }

    private static func program() throws -> String {
        var path = [CChar](repeating: 0, count: 4097)
        let count = readlink("/proc/self/exe", &path, 4096)
        guard count > 0 else {
            throw Failure("/proc/self/exe: \(Errno(rawValue: errno))", .noInput)
        }
        return String(decoding: path[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func setpriv(_ user: String) throws -> [String] {
        guard let entry = getpwnam(user) else {
            throw Failure("there is no user '\(user)'", .usage)
        }
        return [
            "setpriv", "--reuid", "\(entry.pointee.pw_uid)", "--regid",
            "\(entry.pointee.pw_gid)", "--init-groups",
        ]
    }

    /// What the clients saw, when all have ended.
    func samples() throws -> [LoadSample] {
        var bytes: [UInt8] = []
        var part = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = try part.withUnsafeMutableBytes {
                try output.read(into: $0, retryOnInterrupt: true)
            }
            guard count > 0 else { break }
            bytes += part[..<count]
        }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, errno == EINTR {}
        guard status == 0 else {
            // They have said why.
            throw ExitCode(status & 0x7F == 0 ? status >> 8 & 0xFF : 128 + status & 0x7F)
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        return try bytes.split(separator: 0x0A).map {
            try decoder.decode(LoadSample.self, from: Data($0))
        }
    }
}
