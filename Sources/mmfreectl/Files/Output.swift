// SPDX-License-Identifier: Apache-2.0

import ModelStore
import SystemPackage

/// Where a verb's result goes: a file that appears whole or not at all, or standard output for "-".
struct Output {
    private let path: String

    /// - Parameter input: a file that is read, and must not be replaced.
    /// - Throws: what would be in the way, before the work.
    init(_ path: String, input: String? = nil) throws {
        self.path = path
        if path != "-", let input, let read = try? FileIdentity(path: FilePath(input)),
            let written = try? FileIdentity(path: FilePath(path)), written.isSameFile(as: read)
        {
            throw Failure("\(path) is the file that is read: name another output", .usage)
        }
        if path != "-" { _ = try OutputPlace.file(FilePath(path), replacing: true) }
    }

    func write(_ bytes: [UInt8]) throws {
        guard path == "-" else { return try OutputFile.replace(FilePath(path), with: bytes) }
        bytes.withUnsafeBytes { Terminal.write($0) }
    }
}
