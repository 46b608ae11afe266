// SPDX-License-Identifier: Apache-2.0

import Foundation
import ModelStore
import SystemPackage
import Testing

/// The program as it is built, run as a user runs it.
@Suite("mmfreectl, run")
struct ProgramTests {
    private struct Result {
        let status: Int32
        let output, errors: String
    }

    /// This file's repository.
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    private static let demo = root.appendingPathComponent("models/demo.gguf").path

    private func program(_ arguments: [String]) -> Process {
        let process = Process()
        // Beside the tests' own program.
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
            .deletingLastPathComponent().appendingPathComponent("mmfreectl")
        process.arguments = arguments
        return process
    }

    /// Runs it to its end. input: what it has for standard input.
    private func run(_ arguments: [String], input: Any? = nil) throws -> Result {
        let process = program(arguments)
        let (output, errors) = (Pipe(), Pipe())
        process.standardInput = input ?? FileHandle.nullDevice
        process.standardOutput = output
        process.standardError = errors
        try process.run()
        let text = try output.fileHandleForReading.readToEnd() ?? Data()
        let complaints = try errors.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        #expect(process.terminationReason == .exit, "\(arguments)")
        return Result(
            status: process.terminationStatus, output: String(decoding: text, as: UTF8.self),
            errors: String(decoding: complaints, as: UTF8.self))
    }

    private func withDirectory(_ body: (URL) throws -> Void) throws {
        let directory = FileManager.default.temporaryDirectory
            .appendingPathComponent("mmfreectl-test-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: directory) }
        try body(directory)
    }

    @Test("standard input that cannot be read is an error of input")
    func input() throws {
        let directory = try #require(FileHandle(forReadingAtPath: "/"))
        let result = try run(["tokenize"], input: directory)
        #expect(result.status == 74)
        #expect(result.errors.contains("cannot read standard input: Is a directory"))
    }
}
