// SPDX-License-Identifier: Apache-2.0

import Glibc
package import SystemPackage

/// Directories of packed models: each `NAME.gguf` in them is the model NAME; an earlier directory's name hides a later one's.
package struct ModelDirectory: Sendable, Equatable {
    package let paths: [FilePath]

    package init(_ paths: [FilePath]) { self.paths = paths }

    /// A model's name and the file that has it now.
    package struct Entry: Sendable, Equatable {
        package let name: String
        package let path: FilePath
        package let identity: FileIdentity

        package init(name: String, path: FilePath, identity: FileIdentity) {
            self.name = name
            self.path = path
            self.identity = identity
        }
    }

    static let suffix = ".gguf"
    static let entryLimit = 4096

    /// The models there are, sorted by name. Links are followed; what is not a regular file or not well named is passed over.
    package func scan() -> [Entry] {
        var found: [String: Entry] = [:]
        for directory in paths {
            for file in Self.names(in: directory) {
                guard let name = Self.modelName(file), found[name] == nil,
                    found.count < Self.entryLimit
                else { continue }
                let path = directory.appending(file)
                guard let identity = try? FileIdentity(path: path) else { continue }
                found[name] = Entry(name: name, path: path, identity: identity)
            }
        }
        return found.values.sorted { $0.name < $1.name }
    }

    /// The name a file gives its model: letters, digits, '.', '_' and '-', not beginning with a dot; `nil` for other files.
    package static func modelName(_ file: String) -> String? {
        guard file.hasSuffix(suffix) else { return nil }
        let name = file.dropLast(suffix.count)
        let allowed = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "-"):
                true
            default: false
            }
        }
        guard allowed, !name.isEmpty, name.first != ".", name.utf8.count <= 200 else { return nil }
        return String(name)
    }

    private static func names(in directory: FilePath) -> [String] {
        guard let handle = opendir(directory.string) else { return [] }
        defer { closedir(handle) }
        var names: [String] = []
        while let entry = readdir(handle) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            names.append(name)
        }
        return names.sorted()
    }
}
