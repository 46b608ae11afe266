// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import SystemPackage

/// Runs this program with other arguments in a process of its own; returns what it writes.
///
/// - Throws: `ExitCode` with its exit status if that is not 0; `Failure` when the user has asked to stop.
func ownOutput(_ arguments: [String]) throws -> [UInt8] {
    let pipe = try FileDescriptor.pipe()
    defer { try? pipe.readEnd.close() }
    for end in [pipe.readEnd, pipe.writeEnd] { _ = fcntl(end.rawValue, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, pipe.writeEnd.rawValue, 1)
    var strings = (["mmfreectl"] + arguments).map { strdup($0) } + [nil]
    defer { for string in strings { free(string) } }
    var child: pid_t = 0
    let problem = posix_spawn(&child, "/proc/self/exe", &actions, nil, &strings, environ)
    try pipe.writeEnd.close()
    guard problem == 0 else {
        throw Failure("cannot start a process: \(Errno(rawValue: problem))", .temporary)
    }
    Interruption.pass(to: child)
    var output: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 64 << 10)
    while let count = try? part.withUnsafeMutableBytes({ try pipe.readEnd.read(into: $0) }),
        count > 0
    {
        output += part[..<count]
    }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0, errno == EINTR {}
    Interruption.pass(to: 0)
    try Interruption.check()
    let signal = status & 0x7F
    guard status == 0 else { throw ExitCode(signal == 0 ? status >> 8 & 0xFF : 128 + signal) }
    return output
}

/// This process's resident memory now.
func residentBytes() -> Int { memoryFigure("Rss") }

/// A figure of /proc/self/smaps_rollup in bytes: "Rss", "Pss", "Private_Dirty".
func memoryFigure(_ name: String) -> Int {
    guard let text = try? readText("/proc/self/smaps_rollup") else { return 0 }
    for line in text.split(separator: "\n") where line.hasPrefix(name + ":") {
        return (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 1024
    }
    return 0
}

func seconds(since began: ContinuousClock.Instant) -> Double { (.now - began) / .seconds(1) }
