// SPDX-License-Identifier: Apache-2.0

import Foundation
import ModelStore
package import SystemPackage

/// Tests/Fixtures.
package let fixtures = FilePath(#filePath).removingLastComponent().removingLastComponent()
    .appending("Fixtures")

/// A new directory in /tmp; whoever makes it removes it.
package func makeTemporaryDirectory() throws -> FilePath {
    var template = Array("/tmp/mmfreed-tests-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw Errno(rawValue: errno) }
    return FilePath(platformString: template)
}

/// A directory that is gone after `body`, with all that is in it.
package func withDirectory<R>(_ body: (FilePath) throws -> R) throws -> R {
    let directory = try makeTemporaryDirectory()
    defer { try? removeFile(directory) }
    return try body(directory)
}

package func makeDirectory(_ path: FilePath) throws {
    try FileManager.default.createDirectory(
        atPath: path.string, withIntermediateDirectories: false)
}

/// Removes a file, or a directory with all that is in it.
package func removeFile(_ path: FilePath) throws {
    try FileManager.default.removeItem(atPath: path.string)
}

/// The names in a directory, hidden ones too, sorted.
package func names(in directory: FilePath) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: directory.string)) ?? []).sorted()
}

package func write(_ bytes: [UInt8], to path: FilePath) throws {
    let file = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
    try file.closeAfter { _ = try file.writeAll(bytes) }
}

/// Lets so much time pass that a file in `directory` that is written now gets another time: file systems count it in steps.
package func passFileTime(in directory: FilePath) throws {
    let probe = directory.appending(".time")
    defer { try? removeFile(probe) }
    func time() throws -> FileIdentity {
        try write([1], to: probe)
        return try FileIdentity(path: probe)
    }
    let before = try time()
    try waitUntil { try time() != before }
}

/// The process's mask of permissions. Reading it sets nothing, so that other tests are not disturbed.
package func permissionMask() throws -> UInt16 {
    let status = String(decoding: try bytes(of: "/proc/self/status"), as: UTF8.self)
    let line = status.split(separator: "\n").first { $0.hasPrefix("Umask:") }
    return line.flatMap { UInt16($0.dropFirst(6).drop(while: \.isWhitespace), radix: 8) } ?? 0
}

/// A whole file.
package func bytes(of path: FilePath) throws -> [UInt8] {
    let file = try FileDescriptor.open(path, .readOnly)
    return try file.closeAfter {
        var all: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 20)
        while true {
            let count = try chunk.withUnsafeMutableBytes { try file.read(into: $0) }
            if count == 0 { return all }
            all += chunk[..<count]
        }
    }
}
