// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import ModelStore
import SystemPackage

/// Where a verb's result goes: a file that appears whole or not at all, or standard output for "-".
struct Output {
    private let path: String
    private let replacing: Bool

    /// - Parameters:
    ///   - replacing: whether a file may be there.
    ///   - inputs: files that are read, and so never replaced.
    /// - Throws: what would be in the way, before the work.
    init(_ path: String, replacing: Bool, inputs: [String]) throws {
        self.path = path
        self.replacing = replacing
        guard path != "-" else { return }
        try OutputPlace.check(FilePath(path), isNone: inputs.map { FilePath($0) })
        _ = try OutputPlace.file(FilePath(path), replacing: replacing)
    }

    func write(_ bytes: [UInt8]) throws {
        guard path == "-" else {
            return try OutputFile.replace(FilePath(path), with: bytes, replacing: replacing)
        }
        bytes.withUnsafeBytes { Terminal.write($0) }
    }
}

/// What all verbs that write one file take.
struct Replacing: ParsableArguments {
    @Flag(name: [.short, .long], help: "Replace the file if it is there.") var force = false
}
