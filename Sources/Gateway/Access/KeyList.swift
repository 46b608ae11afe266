// SPDX-License-Identifier: Apache-2.0

package import SystemPackage

/// The keys of which a request must have one, where there is a file of them.
package struct KeyList: Sendable {
    private let keys: [[UInt8]]

    /// A key that can be guessed, or a file without any.
    package struct Unusable: Error, CustomStringConvertible {
        package let description: String
    }

    static let shortest = 16

    /// - Parameter text: one key a line; empty lines and those that begin with # do not count.
    package init(_ text: String) throws(Unusable) {
        let lines = text.split(whereSeparator: \.isNewline).map { $0.utf8.filter { $0 != 32 } }
            .filter { !$0.isEmpty && $0.first != UInt8(ascii: "#") }
        if lines.isEmpty { throw Unusable(description: "there is no key in it") }
        if let short = lines.firstIndex(where: { $0.count < Self.shortest }) {
            throw Unusable(
                description:
                    "key \(short + 1) has \(lines[short].count) bytes; \(Self.shortest) are the least"
            )
        }
        keys = lines
    }

    /// Reads a file of at most 64 KiB.
    package init(file: FilePath) throws {
        let descriptor = try FileDescriptor.open(file, .readOnly, options: .closeOnExec)
        let bytes = try descriptor.closeAfter {
            var bytes = [UInt8](repeating: 0, count: 64 << 10)
            let count = try bytes.withUnsafeMutableBytes { try descriptor.read(into: $0) }
            return bytes[..<count]
        }
        try self.init(String(decoding: bytes, as: UTF8.self))
    }

    /// - Parameter authorization: an Authorization header.
    package func allows(_ authorization: String?) -> Bool {
        guard let authorization, authorization.utf8.count > 7,
            authorization.prefix(7).lowercased() == "bearer "
        else { return false }
        let given = Array(authorization.utf8.dropFirst(7))
        // All of them, to the end: the time tells nothing about which bytes are right.
        var isOne = false
        for key in keys { isOne = Self.isSame(key, given) || isOne }
        return isOne
    }

    private static func isSame(_ key: [UInt8], _ given: [UInt8]) -> Bool {
        var difference: UInt8 = key.count == given.count ? 0 : 1
        for index in key.indices {
            difference |= key[index] ^ (index < given.count ? given[index] : 0)
        }
        return difference == 0
    }
}
