// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
package import SystemPackage

/// A file that appears under its name whole or not at all, in place of what was there. Every file this project writes for
/// others is written so.
///
/// The bytes go to a file without a name in the destination's directory, which `commit` syncs and names; until then the
/// destination is untouched, and however the process ends, nothing is left. Replacing, and file systems that have no such
/// files (NFS, older overlays), take a hidden name (`HiddenName`), which the next writer removes if this process is killed.
package struct OutputFile: ~Copyable {
    /// Where the file will be: links followed.
    package let path: FilePath
    package let descriptor: FileDescriptor
    private let replacing: Bool
    /// The name it has so far, if any.
    private var hidden: FilePath?

    /// - Parameters:
    ///   - replacing: whether a regular file may be there, now or when it is committed.
    ///   - nameless: whether to ask for a file without a name.
    ///   - tidies: whether to look for what killed writers have left in the directory.
    package init(
        _ path: FilePath, replacing: Bool, nameless: Bool = true, tidies: Bool = true
    ) throws(StoreError) {
        let target = try OutputPlace.file(path, replacing: replacing)
        if tidies { HiddenName.removeStale(in: OutputPlace.directory(of: target)) }
        let (descriptor, hidden) = try Self.make(for: target, nameless: nameless)
        self.path = target
        self.descriptor = descriptor
        self.replacing = replacing
        self.hidden = hidden
    }

    /// A new file beside `path`, locked, and the name it has, if any.
    private static func make(
        for path: FilePath, nameless: Bool
    ) throws(StoreError) -> (FileDescriptor, FilePath?) {
        let place = OutputPlace.directory(of: path)
        // It gets its name by way of /proc.
        let asks = nameless && access("/proc/self/fd", X_OK) == 0
        let unnamed = asks ? cl_open_nameless(place.string, 0o600) : -1
        if unnamed >= 0 {
            flock(unnamed, LOCK_EX | LOCK_NB)
            return (FileDescriptor(rawValue: unnamed), nil)
        }
        while true {
            let name = place.appending(HiddenName.make())
            let made: FileDescriptor
            do {
                made = try .open(
                    name, .readWrite, options: [.create, .exclusiveCreate, .closeOnExec],
                    permissions: [.ownerReadWrite])
            } catch {
                throw .destination(path, "cannot create a file in \(place): \(error)")
            }
            if HiddenName.claim(made.rawValue, name) { return (made, name) }
            try? made.close()
        }
    }

    deinit {
        if let hidden { unlink(hidden.string) }
        try? descriptor.close()
    }

    package func write(_ bytes: [UInt8], at offset: Int) throws(StoreError) {
        do { _ = try descriptor.writeAll(toAbsoluteOffset: Int64(offset), bytes) } catch {
            throw .io(error as? Errno ?? .ioError, doing: "write", path)
        }
    }

    /// Writes `bytes` as the whole of a file.
    package static func replace(
        _ path: FilePath, with bytes: [UInt8], replacing: Bool = true
    ) throws(StoreError) {
        var file = try OutputFile(path, replacing: replacing)
        try file.write(bytes, at: 0)
        try file.commit()
    }

    /// Gives the file its mode (0644 less the umask, unless one is given), makes it durable and puts it in its place.
    package mutating func commit(mode: FilePermissions? = nil) throws(StoreError) {
        var mask = mode_t(0o022)
        mask = umask(mask)
        umask(mask)
        try check(fchmod(descriptor.rawValue, mode?.rawValue ?? 0o644 & ~mask), "set the mode of")
        try check(fsync(descriptor.rawValue), "make durable")
        try install()
        OutputPlace.sync(OutputPlace.directory(of: path))
    }

    /// A destination that came into being meanwhile is not replaced unwished: linking refuses it in one step, which renaming
    /// does not.
    private mutating func install() throws(StoreError) {
        if hidden == nil {
            let result = cl_give_name(descriptor.rawValue, path.string)
            // Again: what is synced while it has no name is not there after a crash on every file system (btrfs).
            if result == 0 { return try check(fsync(descriptor.rawValue), "make durable") }
            guard result == -EEXIST else {
                throw .io(Errno(rawValue: -result), doing: "name", path)
            }
            guard replacing else { throw .exists(path) }
            // Only renaming replaces, and takes a name for it.
            let name = OutputPlace.directory(of: path).appending(HiddenName.make())
            let named = cl_give_name(descriptor.rawValue, name.string)
            guard named == 0 else { throw .io(Errno(rawValue: -named), doing: "name", path) }
            hidden = name
            _ = fsync(descriptor.rawValue)
        }
        guard let name = hidden else { return }
        if !replacing {
            if link(name.string, path.string) == 0 { return }  // deinit takes the hidden name away
            guard errno != EEXIST else { throw .exists(path) }
            // A file system without hard links: what is left is the check made at the beginning.
        }
        // Nothing but a regular file is ever replaced, whatever took the place meanwhile.
        _ = try OutputPlace.file(path, replacing: true)
        try check(rename(name.string, path.string), "rename into place")
        hidden = nil
    }

    private func check(_ result: Int32, _ doing: String) throws(StoreError) {
        guard result == 0 else { throw .io(Errno(rawValue: errno), doing: doing, path) }
    }
}

/// Where output may go.
package enum OutputPlace {
    /// Where a file called `path` would lie, links followed. Refuses what is there and is no regular file: replacing a device,
    /// a FIFO or a socket would take it from everybody, and a directory cannot be.
    package static func file(_ path: FilePath, replacing: Bool) throws(StoreError) -> FilePath {
        func refuse(_ why: String) -> StoreError { .destination(path, why) }
        guard let name = path.lastComponent, name.kind == .regular else {
            throw refuse(path.isEmpty ? "the name is empty" : "it names a directory")
        }
        guard name.string.utf8.count <= Int(NAME_MAX) else {
            throw refuse(
                "the name is \(name.string.utf8.count) bytes long; at most \(NAME_MAX) are possible"
            )
        }
        var status = stat()
        guard lstat(path.string, &status) == 0 else {
            guard errno == ENOENT else { throw refuse("\(Errno(rawValue: errno))") }
            let place = directory(of: path)
            guard stat(place.string, &status) == 0 else {
                throw refuse("the directory \(place): \(Errno(rawValue: errno))")
            }
            guard status.st_mode & S_IFMT == S_IFDIR else {
                throw refuse("\(place) is not a directory")
            }
            return path
        }
        var target = path
        if status.st_mode & S_IFMT == S_IFLNK {
            guard stat(path.string, &status) == 0 else {
                throw refuse("it is a symbolic link that leads nowhere")
            }
            guard let real = realpath(path.string, nil) else {
                throw refuse("\(Errno(rawValue: errno))")
            }
            target = FilePath(platformString: real)
            free(real)
            // /dev/stdout and the like: a file that is open, perhaps, and not to be exchanged behind its reader.
            guard !leadsThroughProc(path) else {
                throw refuse("it stands for a file that is open already, not for a place")
            }
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw refuse("\(kind(status.st_mode)); give the name of a file")
        }
        guard replacing else { throw .exists(path) }
        return target
    }

    /// Refuses a place that is one of the files read, by whatever name.
    package static func check(
        _ path: FilePath, isNone inputs: some Sequence<FilePath>
    ) throws(StoreError) {
        var (place, input) = (stat(), stat())
        guard stat(path.string, &place) == 0 else { return }
        for file in inputs
        where stat(file.string, &input) == 0 && input.st_ino == place.st_ino
            && input.st_dev == place.st_dev
        {
            throw .destination(path, "that is the input \(file); write to another file")
        }
    }

    static func directory(of path: FilePath) -> FilePath {
        let directory = path.removingLastComponent()
        return directory.isEmpty ? "." : directory
    }

    /// Makes the names in a directory durable, as far as the file system does that.
    package static func sync(_ directory: FilePath) {
        guard
            let handle = try? FileDescriptor.open(
                directory, .readOnly, options: [.directory, .closeOnExec])
        else { return }
        fsync(handle.rawValue)
        try? handle.close()
    }

    private static func kind(_ mode: mode_t) -> String {
        switch mode & S_IFMT {
        case S_IFDIR: "it is a directory"
        case S_IFCHR, S_IFBLK: "it is a device"
        case S_IFIFO: "it is a FIFO"
        case S_IFSOCK: "it is a socket"
        default: "it is no regular file"
        }
    }

    private static func leadsThroughProc(_ path: FilePath) -> Bool {
        var path = path
        for _ in 0..<40 {
            if let real = realpath(directory(of: path).string, nil) {
                defer { free(real) }
                if strncmp(real, "/proc/", 6) == 0 { return true }
            }
            var buffer = [UInt8](repeating: 0, count: Int(PATH_MAX))
            let count = buffer.withUnsafeMutableBytes {
                readlink(path.string, $0.baseAddress!, $0.count)
            }
            guard count > 0 else { return false }
            let link = FilePath(String(decoding: buffer.prefix(count), as: UTF8.self))
            path = link.isAbsolute ? link : directory(of: path).pushing(link)
        }
        return true
    }
}

/// Names of files and directories that are still being written. Whoever writes one holds a lock (flock) on it for as long, so
/// that one without a lock is what a killed process left, and may go.
package enum HiddenName {
    private static let start = ".mmfreed-partial-"

    package static func make() -> String {
        "\(start)\(getpid())-\(String(UInt64.random(in: .min ... .max), radix: 36))"
    }

    /// Removes what killed writers of the same user left in a directory.
    package static func removeStale(in directory: FilePath) {
        for name in (try? Directory.names(in: directory)) ?? [] where name.hasPrefix(start) {
            let path = directory.appending(name)
            var status = stat()
            guard lstat(path.string, &status) == 0, status.st_uid == geteuid(),
                [S_IFREG, S_IFDIR].contains(status.st_mode & S_IFMT)
            else { continue }
            let handle = open(path.string, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
            guard handle >= 0 else { continue }
            defer { close(handle) }
            guard flock(handle, LOCK_EX | LOCK_NB) == 0 else { continue }
            remove(path, isDirectory: status.st_mode & S_IFMT == S_IFDIR)
        }
    }

    /// Locks what was just made under `name`. False if somebody's `removeStale` was quicker: make another.
    package static func claim(_ descriptor: CInt, _ name: FilePath) -> Bool {
        flock(descriptor, LOCK_EX)
        var (held, found) = (stat(), stat())
        return fstat(descriptor, &held) == 0 && lstat(name.string, &found) == 0
            && held.st_ino == found.st_ino && held.st_dev == found.st_dev
    }

    /// Removes a file, or a directory of files.
    package static func remove(_ path: FilePath, isDirectory: Bool) {
        guard isDirectory else {
            unlink(path.string)
            return
        }
        for name in (try? Directory.names(in: path)) ?? [] { unlink(path.appending(name).string) }
        rmdir(path.string)
    }
}
