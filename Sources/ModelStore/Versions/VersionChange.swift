// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
package import SystemPackage

/// The right to change a model's versions: one process at a time in a directory (flock).
///
/// Whenever the process ends, the model's name leads to the version before or to the one after. What a killed process leaves is
/// a whole version that nobody names, or an empty directory, and the next change removes it.
package struct VersionChange: ~Copyable {
    package let versions: ModelVersions
    private let lock: FileDescriptor

    /// Looks at whole files: throws what is wrong with one.
    package typealias Check = (PackedFile) throws -> Void

    /// Waits while another process changes versions in this directory.
    ///
    /// - Parameter wait: called every 100 ms meanwhile; throws to give up.
    package init(of name: String, in directory: FilePath, wait: () throws -> Void) throws {
        versions = ModelVersions(of: name, in: directory)
        lock = try Self.locked(directory, wait)
        tidy()
    }

    private static func locked(
        _ directory: FilePath, _ wait: () throws -> Void
    ) throws -> FileDescriptor {
        let lock: FileDescriptor
        do {
            lock = try .open(directory, .readOnly, options: [.directory, .closeOnExec])
        } catch { throw StoreError.destination(directory, "\(error)") }
        do {
            var status = stat()
            guard fstat(lock.rawValue, &status) == 0, access(directory.string, W_OK | X_OK) == 0
            else {
                throw VersionError.notAllowed(
                    directory, Errno(rawValue: errno), owner: status.st_uid)
            }
            while flock(lock.rawValue, LOCK_EX | LOCK_NB) != 0 {
                guard errno == EWOULDBLOCK || errno == EINTR else {
                    throw StoreError.io(Errno(rawValue: errno), doing: "lock", directory)
                }
                try wait()
                usleep(100_000)
            }
            return lock
        } catch {
            try? lock.close()
            throw error
        }
    }

    deinit {
        tidy()
        try? lock.close()
    }

    /// Removes what killed processes have left, and directories with nothing in them.
    private func tidy() {
        let folder = versions.directory.appending(ModelVersions.folder)
        unlink(versions.directory.appending(Self.nextLink).string)
        for name in (try? Directory.names(in: folder)) ?? [] {
            let store = ModelVersions(of: name, in: versions.directory).store
            HiddenName.removeStale(in: store)
            let names = (try? Directory.names(in: store)) ?? []
            if names == ["order"] { unlink(store.appending("order").string) }
            rmdir(store.string)
        }
        rmdir(folder.string)
    }

    // MARK: Install

    package struct Installed: Sendable, Equatable {
        package let id: String
        /// The version that was current; `nil` if there was none.
        package let previous: String?
        /// `nil` if this version was current already, and whole.
        package let copy: FileCopy.Kind?
        /// Why the file system does not protect it by fs-verity; `nil` if it does.
        package let unprotected: Errno?
        /// Versions that are not kept any more.
        package let removed: [String]
    }

    /// Makes a copy of `source` the current version.
    ///
    /// - Parameters:
    ///   - keep: how many versions before it stay; none that is current is ever removed.
    ///   - check: looks at what has been copied before anybody is given it.
    ///   - progress: told the bytes copied and the bytes in all; returns false to stop.
    package func install(
        _ source: PackedFile, keep: Int, check: Check, progress: (Int, Int) -> Bool
    ) throws -> Installed {
        let (id, before) = (source.modelDigest, versions.current)
        try checkLink()
        if before == .version(id), let present = try? PackedFile(path: versions.path(of: id)),
            present.modelDigest == id, (try? check(present)) != nil
        {
            try check(source)
            return Installed(
                id: id, previous: id, copy: nil, unprotected: protect(id),
                removed: prune(keep: keep))
        }
        try makeStore()
        let copy = try write(source, id, check, progress)
        let unprotected = protect(id)
        let previous = try keepOwn(before, unless: id)
        try writeOrder(adding: id, after: previous)
        try point(to: id)
        return Installed(
            id: id, previous: previous, copy: copy, unprotected: unprotected,
            removed: prune(keep: keep))
    }

    /// Nothing but a file or a link is ever replaced.
    private func checkLink() throws(StoreError) {
        var status = stat()
        guard
            lstat(versions.link.string, &status) != 0
                || [S_IFREG, S_IFLNK].contains(status.st_mode & S_IFMT)
        else {
            throw .destination(versions.link, "it is no regular file and no link to one")
        }
    }

    private func makeStore() throws(StoreError) {
        for directory in [versions.store.removingLastComponent(), versions.store] {
            if mkdir(directory.string, 0o755) == 0 {
                // Whatever the umask: daemons read here.
                chmod(directory.string, 0o755)
                OutputPlace.sync(directory.removingLastComponent())
            } else if errno != EEXIST {
                throw .destination(directory, "\(Errno(rawValue: errno))")
            }
        }
    }

    /// Writes the version's file, checks it, and gives it its name.
    private func write(
        _ source: PackedFile, _ id: String, _ check: Check, _ progress: (Int, Int) -> Bool
    ) throws -> FileCopy.Kind {
        var file = try OutputFile(versions.path(of: id), replacing: true)
        let kind = try FileCopy.copy(source.map, to: file.descriptor, file.path, progress)
        try check(Self.opened(file.descriptor, source))
        try file.commit(mode: FilePermissions(rawValue: 0o644))
        return kind
    }

    private static func opened(
        _ descriptor: FileDescriptor, _ source: PackedFile
    ) throws -> PackedFile {
        // What is wrong with the copy is wrong with the source.
        let copy = try PackedFile(
            MappedFile(descriptor: descriptor.duplicate(), path: source.path))
        guard copy.modelDigest == source.modelDigest else {
            throw StoreError.changed(source.path, .written)
        }
        return copy
    }

    /// Lets the file system refuse every write to a version, and every page of it that is not as it was written.
    private func protect(_ id: String) -> Errno? {
        guard
            let file = try? FileDescriptor.open(
                versions.path(of: id), .readOnly, options: [.closeOnExec])
        else { return .ioError }
        defer { try? file.close() }
        let result = cl_enable_verity(file.rawValue)
        return result == 0 || result == -EEXIST ? nil : Errno(rawValue: -result)
    }

    /// Keeps an administrator's own file as a version.
    ///
    /// - Returns: the ID of what is current.
    private func keepOwn(
        _ current: ModelVersions.Current, unless new: String? = nil
    ) throws(StoreError) -> String? {
        switch current {
        case .nothing: return nil
        case .version(let id): return id
        case .own: break
        }
        let link = versions.link
        let id = ModelVersions.id(of: link)
        if id == new { return id }
        try makeStore()
        let kept = versions.path(of: id)
        var status = stat()
        lstat(link.string, &status)
        let result: Int32
        if status.st_mode & S_IFMT == S_IFLNK, let real = realpath(link.string, nil) {
            result = symlink(real, kept.string)
            free(real)
        } else {
            result = Glibc.link(link.string, kept.string)
        }
        guard result == 0 || errno == EEXIST else {
            throw .destination(
                link, "keeping the present file as a version: \(Errno(rawValue: errno))")
        }
        return id
    }

    private func writeOrder(adding id: String, after previous: String?) throws(StoreError) {
        let present = versions.ids
        var order = versions.order.filter(present.contains)
        // What was gone back from is not what to go back to.
        if let previous, let place = order.lastIndex(of: previous) {
            order.removeSubrange((place + 1)...)
        } else if let previous {
            order.append(previous)
        }
        order.removeAll { $0 == id }
        order.append(id)
        let text = order.map { $0 + "\n" }.joined()
        try OutputFile.replace(versions.orderFile, with: Array(text.utf8))
    }

    private static let nextLink = ".next-version"

    /// Makes a version the current one, in one step.
    private func point(to id: String) throws(StoreError) {
        let (link, next) = (versions.link, versions.directory.appending(Self.nextLink))
        unlink(next.string)
        guard symlink(versions.target(of: id), next.string) == 0 else {
            throw .io(Errno(rawValue: errno), doing: "make the link", next)
        }
        try checkLink()
        guard rename(next.string, link.string) == 0 else {
            throw .io(Errno(rawValue: errno), doing: "rename into place", link)
        }
        OutputPlace.sync(versions.directory)
    }

    /// Removes all versions but the current one and `keep` before it. Whoever has one mapped keeps what is mapped.
    private func prune(keep: Int) -> [String] {
        guard case .version(let current) = versions.current else { return [] }
        let order = versions.order
        let place = order.lastIndex(of: current) ?? order.endIndex
        let kept = Set(order[..<place].suffix(keep) + [current])
        return versions.ids.filter { id in
            !kept.contains(id) && unlink(versions.path(of: id).string) == 0
        }
    }

    // MARK: Rollback, remove

    /// Makes an earlier version the current one: the one before, or that whose ID begins with `prefix`.
    ///
    /// - Returns: its ID, and that of the one that was current.
    package func rollback(
        to prefix: String?, check: Check
    ) throws -> (id: String, previous: String?) {
        let id =
            try prefix.map { prefix throws(VersionError) in try versions.find(prefix) }
            ?? versions.earlier()
        let file = try PackedFile(path: versions.path(of: id))
        guard file.modelDigest == id else { throw StoreError.changed(file.path, .corrupt) }
        try check(file)
        let previous = try keepOwn(versions.current)
        if previous != id { try point(to: id) }
        return (id, previous)
    }

    /// Removes a version that is not current, or the model with all its versions.
    ///
    /// - Returns: the IDs of what was removed.
    package func remove(_ prefix: String? = nil) throws -> [String] {
        if let prefix {
            let id = try versions.find(prefix)
            guard versions.current != .version(id) else {
                throw VersionError.isCurrent(versions.name, id)
            }
            try unlinkFile(versions.path(of: id))
            OutputPlace.sync(versions.store)
            return [id]
        }
        let list = versions.list
        guard !list.isEmpty || versions.current != .nothing else {
            throw VersionError.noModel(
                versions.name, versions.directory,
                ModelVersions.names(in: versions.directory))
        }
        // From here on nobody is given it.
        if versions.current != .nothing {
            try unlinkFile(versions.link)
            OutputPlace.sync(versions.directory)
        }
        for id in versions.ids { try unlinkFile(versions.path(of: id)) }
        return list.map(\.id)
    }

    private func unlinkFile(_ path: FilePath) throws(StoreError) {
        guard unlink(path.string) == 0 || errno == ENOENT else {
            throw .io(Errno(rawValue: errno), doing: "remove", path)
        }
    }
}
