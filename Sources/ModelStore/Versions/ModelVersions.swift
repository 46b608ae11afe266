// SPDX-License-Identifier: Apache-2.0

import Glibc
package import SystemPackage

/// The versions of one model in a directory of models.
///
/// `NAME.gguf`, which is what daemons serve, is a symbolic link to `.versions/NAME/ID.gguf`; an ID is the model's digest. Changing
/// versions is renaming that link, so that its name always leads to a whole file. `.versions/NAME/order` lists IDs in the order in
/// which they became current; the link alone says which one is.
///
/// A `NAME.gguf` that is no such link, an administrator's own, is the current version all the same, and is kept as one when
/// another takes its place.
package struct ModelVersions: Sendable {
    package let directory: FilePath
    package let name: String

    static let folder = ".versions"

    package init(of name: String, in directory: FilePath) {
        self.directory = directory
        self.name = name
    }

    package struct Version: Sendable, Equatable {
        /// The digest, by which it is installed; "unreadable-INODE" for a file that has none.
        package let id: String
        package let path: FilePath
        package let bytes: Int
        /// When it was written: seconds since the epoch.
        package let written: Int
        package let isCurrent: Bool
        /// Why it cannot be served, as far as its header tells.
        package let problem: String?
    }

    /// What stands under the model's name.
    enum Current: Equatable {
        case nothing
        /// A link to this version.
        case version(String)
        /// Something of the administrator's: a file, or a link to one elsewhere.
        case own
    }

    /// The name that daemons serve.
    package var link: FilePath { directory.appending(name + ModelDirectory.suffix) }
    var store: FilePath { directory.appending(Self.folder).appending(name) }
    var orderFile: FilePath { store.appending("order") }
    func path(of id: String) -> FilePath { store.appending(id + ModelDirectory.suffix) }
    /// What the link says: a path that holds wherever the directory is mounted.
    func target(of id: String) -> String {
        "\(Self.folder)/\(name)/\(id)\(ModelDirectory.suffix)"
    }

    var current: Current {
        var status = stat()
        guard lstat(link.string, &status) == 0 else { return .nothing }
        guard status.st_mode & S_IFMT == S_IFLNK, let text = Self.text(ofLink: link),
            text.hasPrefix("\(Self.folder)/\(name)/"), text.hasSuffix(ModelDirectory.suffix)
        else { return .own }
        let id = text.dropFirst("\(Self.folder)/\(name)/".count)
            .dropLast(ModelDirectory.suffix.count)
        return id.contains("/") ? .own : .version(String(id))
    }

    static func text(ofLink path: FilePath) -> String? {
        var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = buffer.withUnsafeMutableBytes {
            readlink(path.string, $0.baseAddress!, $0.count)
        }
        return count > 0 ? String(decoding: buffer.prefix(count), as: UTF8.self) : nil
    }

    /// IDs in the order in which they became current, the newest last.
    var order: [String] {
        guard let text = (try? Self.read(orderFile)) ?? nil else { return [] }
        return text.split(separator: "\n").map(String.init)
    }

    private static func read(_ path: FilePath) throws -> String? {
        let file = try FileDescriptor.open(path, .readOnly, options: [.closeOnExec, .nonBlocking])
        return try file.closeAfter {
            // A line is 65 bytes.
            var bytes = [UInt8](repeating: 0, count: 1 << 20)
            let count = try bytes.withUnsafeMutableBytes { try file.read(into: $0) }
            return String(decoding: bytes.prefix(count), as: UTF8.self)
        }
    }

    /// The IDs there are files for, oldest first: as `order` says, before them those it does not name.
    var ids: [String] {
        let present = ((try? Directory.names(in: store)) ?? [])
            .filter { !$0.hasPrefix(".") && $0.hasSuffix(ModelDirectory.suffix) }
            .map { String($0.dropLast(ModelDirectory.suffix.count)) }
        let order = order
        let unnamed = present.filter { !order.contains($0) }
            .map { (modified: (try? FileIdentity(path: path(of: $0)))?.modified ?? 0, id: $0) }
            .sorted { ($0.modified, $0.id) < ($1.modified, $1.id) }
        return unnamed.map(\.id) + order.filter(present.contains)
    }

    /// All versions, oldest first; their headers are read. Empty for a model that is not there.
    package var list: [Version] {
        let current = current
        var list = ids.map { id in
            version(id, path(of: id), isCurrent: current == .version(id))
        }
        if current == .own { list.append(version(Self.id(of: link), link, isCurrent: true)) }
        return list
    }

    private func version(_ id: String, _ path: FilePath, isCurrent: Bool) -> Version {
        let identity = try? FileIdentity(path: path)
        var problem: String?
        do throws(StoreError) {
            let digest = try PackedFile(path: path).modelDigest
            if digest != id { problem = "it was written over: its digest is \(digest) now" }
        } catch { problem = error.description }
        return Version(
            id: id, path: path, bytes: identity?.size ?? 0,
            written: (identity?.modified ?? 0) / 1_000_000_000, isCurrent: isCurrent,
            problem: problem)
    }

    /// What a file that was not installed is called as a version.
    static func id(of path: FilePath) -> String {
        if let file = try? PackedFile(path: path) { return file.modelDigest }
        var status = stat()
        lstat(path.string, &status)
        return "unreadable-\(status.st_ino)"
    }

    /// The version that `prefix` begins the ID of.
    func find(_ prefix: String) throws(VersionError) -> String {
        let ids = ids
        if ids.contains(prefix) { return prefix }
        let found = prefix.isEmpty ? [] : ids.filter { $0.hasPrefix(prefix) }
        guard found.count <= 1 else { throw .severalVersions(name, prefix, found) }
        guard let id = found.first else { throw .noVersion(name, prefix, ids) }
        return id
    }

    /// The version to go back to: the one that was current before this one.
    func earlier() throws(VersionError) -> String {
        let ids = ids
        let before: ArraySlice<String> =
            if case .version(let id) = current, let place = order.lastIndex(of: id) {
                order[..<place]
            } else if case .version(let id) = current {
                ids[..<(ids.firstIndex(of: id) ?? 0)]
            } else { ids[...] }
        guard let id = before.last(where: ids.contains) else {
            throw ids.isEmpty && current == .nothing
                ? .noModel(name, directory, Self.names(in: directory))
                : .noEarlier(name, ids)
        }
        return id
    }

    /// The models of a directory: those that are served, and those of which versions are kept.
    package static func names(in directory: FilePath) -> [String] {
        let served = ModelDirectory([directory]).scan().entries.map(\.name)
        let kept = (try? Directory.names(in: directory.appending(folder))) ?? []
        return Set(
            served + kept.filter { ModelDirectory.modelName($0 + ModelDirectory.suffix) != nil }
        )
        .sorted()
    }
}

/// Why versions cannot be changed as asked.
package enum VersionError: Error, Equatable, CustomStringConvertible {
    case noModel(String, FilePath, [String])
    case noVersion(String, String, [String])
    case severalVersions(String, String, [String])
    case noEarlier(String, [String])
    /// The version is the one that is served.
    case isCurrent(String, String)
    /// Whoever asks may not write there.
    case notAllowed(FilePath, Errno, owner: UInt32)
    case interrupted

    package var description: String {
        func list(_ ids: [String]) -> String {
            ids.isEmpty
                ? "there is none"
                : "there are " + ids.map { String($0.prefix(12)) }.joined(separator: ", ")
        }
        return switch self {
        case .noModel(let name, let directory, let names):
            "there is no model '\(name)' in \(directory)\(names.isEmpty ? "" : "; there are \(names.joined(separator: ", "))")"
        case .noVersion(let name, let version, let ids):
            "model '\(name)' has no version \(version.quoted); \(list(ids))"
        case .severalVersions(let name, let version, let ids):
            "'\(version)' begins several versions of model '\(name)': \(list(ids)); give more of it"
        case .noEarlier(let name, let ids):
            "model '\(name)' has no version before the current one; \(list(ids)); --version names one"
        case .isCurrent(let name, let id):
            "version \(id.prefix(12)) of model '\(name)' is the current one: go back first (mmfreectl rollback \(name)), or remove "
                + "the whole model (mmfreectl remove \(name))"
        case .notAllowed(let directory, let errno, let owner):
            "cannot change models in \(directory): \(errno); that is for root and its owner, user \(owner)"
        case .interrupted: "interrupted; nothing was changed"
        }
    }
}
