// SPDX-License-Identifier: Apache-2.0

import Foundation
import SystemPackage
import TestSupport
import Testing

/// The programs as they are built, run as a user runs them.
enum Program {
    struct Result {
        let status: Int32
        let output, errors: String
        var lines: [Substring] { output.split(separator: "\n", omittingEmptySubsequences: true) }
    }

    /// This file's repository.
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    static let demo = root.appendingPathComponent("models/demo.gguf").path

    /// A program beside the tests' own.
    static func path(_ name: String) -> String {
        URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent().appendingPathComponent(name).path
    }

    /// What a sanitizer's build of the programs is told, as these tests are.
    private static let sanitizer = ProcessInfo.processInfo.environment.filter {
        $0.key.hasSuffix("SAN_OPTIONS")
    }

    /// Runs mmfreectl, or another program, to its end.
    ///
    /// - Parameters:
    ///   - input: what is on standard input.
    ///   - environment: these variables and no others.
    ///   - shell: how a shell starts it: "$0" "$@" with redirections around.
    static func run(
        _ arguments: [String], of program: String = "mmfreectl", input: [UInt8] = [],
        environment: [String: String] = [:],
        shell: String = #"exec "$0" "$@""#
    ) throws -> Result {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = ["-c", shell, path(program)] + arguments
        process.environment = sanitizer.merging(["PATH": "/usr/bin:/bin"]) { $1 }
            .merging(environment) { $1 }
        let place = try makeTemporaryDirectory()
        defer { try? removeFile(place) }
        // Files, for a pipe that nobody empties would stop the program.
        func file(_ name: String, _ bytes: [UInt8] = []) throws -> FileHandle {
            let path = place.appending(name)
            try write(bytes, to: path)
            return try FileHandle(forUpdating: URL(fileURLWithPath: path.string))
        }
        let (output, errors) = (try file("output"), try file("errors"))
        process.standardInput = try file("input", input)
        (process.standardOutput, process.standardError) = (output, errors)
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationReason == .exit, "\(arguments)")
        func text(_ handle: FileHandle) throws -> String {
            try handle.seek(toOffset: 0)
            return String(decoding: try handle.readToEnd() ?? Data(), as: UTF8.self)
        }
        return Result(
            status: process.terminationStatus, output: try text(output), errors: try text(errors))
    }

    static func withDirectory(_ body: (String) throws -> Void) throws {
        try TestSupport.withDirectory { try body($0.string) }
    }

    /// Serves the demonstration model, or a directory of models, while `body` runs; gives it the environment of a client.
    ///
    /// - Parameter more: further arguments of the daemon.
    static func withDaemon(
        _ more: [String] = [], models: String? = nil, _ body: ([String: String]) throws -> Void
    ) throws {
        try withDirectory { directory in
            let socket = directory + "/s"
            let daemon = Process()
            daemon.executableURL = URL(fileURLWithPath: path("mmfreed"))
            daemon.arguments =
                [
                    "--socket", socket, "--models",
                    models ?? root.appendingPathComponent("models").path, "--threads", "1",
                ] + more
            daemon.environment = sanitizer
            daemon.standardError = FileHandle.nullDevice
            try daemon.run()
            defer {
                daemon.terminate()
                daemon.waitUntilExit()
            }
            let environment = ["MMFREED_SOCKET": socket]
            try #require(try run(["wait"], environment: environment).status == 0)
            try body(environment)
        }
    }
}
