// SPDX-License-Identifier: Apache-2.0

import Foundation
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
