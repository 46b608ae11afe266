// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Synchronization
package import SystemPackage

/// A read-only shared mapping of a whole regular file, and the descriptor it was made from: every process that maps it uses the
/// same page-cache pages.
///
/// Unmapped and closed when the last reference goes. The mapping stays whole when the path is renamed over or removed. When the
/// file itself is written or cut short, `damage` says so: whoever has computed with its bytes asks before using the result.
package final class MappedFile: Sendable {
    package let path: FilePath
    package let count: Int
    /// As it was just before it was mapped.
    package let identity: FileIdentity
    /// The file at `path` of which this is a copy in memory; `nil` if it is that file.
    private let copied: FileIdentity?
    /// Close-on-exec; closed with the mapping.
    package let descriptor: FileDescriptor
    package let protection: FileProtection
    nonisolated(unsafe) private let base: UnsafeMutableRawPointer
    nonisolated(unsafe) private let reservation: UnsafeMutableRawPointer
    private let reserved: Int
    /// The number under which CLinux contains its faults.
    private let faultGuard: Int32
    private let isToDrop = Atomic<Bool>(false)

    /// MADV_HUGEPAGE; Glibc's module has no name for either.
    private static let hugePages: CInt = 14
    /// MADV_POPULATE_READ, since Linux 5.14.
    private static let populateRead: CInt = 22

    /// Takes over SIGBUS for the process: a mapped file that is cut short becomes `damage` instead of the process's end.
    package static func containFaults() { _ = cl_contain_faults() }

    package convenience init(path: FilePath) throws(StoreError) {
        try self.init(descriptor: Self.open(path), path: path)
    }

    static func open(_ path: FilePath) throws(StoreError) -> FileDescriptor {
        do { return try .open(path, .readOnly, options: [.closeOnExec, .nonBlocking]) } catch {
            throw .io(error as? Errno ?? .ioError, doing: "open", path)
        }
    }

    /// Maps an open descriptor and takes it over, also when it throws. `path` is for messages.
    ///
    /// - Parameter copied: the file of which the descriptor is a `SealedCopy`, if it is one.
    package init(
        descriptor: FileDescriptor, path: FilePath, copyOf copied: FileIdentity? = nil
    ) throws(StoreError) {
        do throws(StoreError) {
            identity = try FileIdentity.of(descriptor, path)
            guard identity.size > 0 else { throw .notRegular(path) }
            (base, reservation, reserved) = try Self.map(descriptor, identity.size, path)
            faultGuard = cl_guard_add(base, identity.size)
            guard faultGuard >= 0 else {
                munmap(reservation, reserved)
                throw .io(.tooManyOpenFiles, doing: "map", path)
            }
        } catch {
            try? descriptor.close()
            if let copied { SealedCopy.discard(copied.size) }
            throw error
        }
        self.path = path
        self.descriptor = descriptor
        self.copied = copied
        protection = FileProtection(descriptor)
        count = identity.size
    }

    deinit {
        cl_guard_remove(faultGuard)
        munmap(reservation, reserved)
        if isToDrop.load(ordering: .relaxed) {
            posix_fadvise(descriptor.rawValue, 0, 0, POSIX_FADV_DONTNEED)
        }
        try? descriptor.close()
        if let copied { SealedCopy.discard(copied.size) }
    }

    /// Has the page cache give up the file's pages when the mapping goes, but for those that other processes have mapped.
    package func dropWhenUnmapped() { isToDrop.store(true, ordering: .relaxed) }

    package var isCopy: Bool { copied != nil }

    /// The file at `path`, as it was just before it was mapped or copied.
    package var source: FileIdentity { copied ?? identity }

    /// Address and file offset agree modulo 2 MiB, so that large page-cache folios can be mapped by huge entries.
    private static func map(
        _ descriptor: FileDescriptor, _ size: Int, _ path: FilePath
    ) throws(StoreError) -> (
        base: UnsafeMutableRawPointer, reservation: UnsafeMutableRawPointer, reserved: Int
    ) {
        let huge = Format.streamAlignment
        let (reserved, overflow) = size.addingReportingOverflow(huge)
        // A sparse file may claim any size.
        guard !overflow else { throw .io(.noMemory, doing: "map", path) }
        guard
            let space = mmap(
                nil, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
            space != MAP_FAILED
        else { throw .io(Errno(rawValue: errno), doing: "map", path) }
        let address = (UInt(bitPattern: space) + UInt(huge) - 1) / UInt(huge) * UInt(huge)
        let aligned = UnsafeMutableRawPointer(bitPattern: address)
        guard
            let base = mmap(
                aligned, size, PROT_READ, MAP_SHARED | MAP_FIXED, descriptor.rawValue, 0),
            base != MAP_FAILED
        else {
            let error = Errno(rawValue: errno)
            munmap(space, reserved)
            throw .io(error, doing: "map", path)
        }
        // A wish, not a need.
        madvise(base, size, hugePages)
        return (base, space, reserved)
    }

    /// What has happened to the file's bytes since it was mapped; `nil` while they are what they were. One fstat.
    ///
    /// A write is told by size and time, which the kernel changes before the bytes: what was computed before the answer is
    /// `nil` came from the file that was mapped.
    package var damage: FileDamage? {
        if cl_guard_is_damaged(faultGuard) != 0 { return .unreadable }
        guard let now = try? FileIdentity.of(descriptor, path) else { return .unreadable }
        return now.size == identity.size && now.modified == identity.modified ? nil : .written
    }

    /// Throws if the file's bytes are not what they were.
    package func checkUnchanged() throws(StoreError) {
        if let damage { throw .changed(path, damage) }
    }

    /// The first byte; valid while `self` lives.
    package var start: UnsafeRawPointer { UnsafeRawPointer(base) }

    package func withBytes<R, E: Error>(
        _ body: (UnsafeRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        try body(UnsafeRawBufferPointer(start: base, count: count))
    }

    /// Brings the file into memory and maps it, `window` bytes at a time.
    ///
    /// - Parameter progress: told the bytes done so far; returns false to stop.
    package func prefault(
        window: Int = 64 << 20, progress: (Int) -> Bool = { _ in true }
    ) throws(StoreError) {
        var done = 0
        while done < count {
            let length = min(window, count - done)
            if madvise(base + done, length, Self.populateRead) != 0 {
                guard errno == EINVAL else {
                    throw .io(Errno(rawValue: errno), doing: "read", path)
                }
                var sum: UInt8 = 0
                for offset in stride(from: done, to: done + length, by: 4096) {
                    sum &+= base.load(fromByteOffset: offset, as: UInt8.self)
                }
                withExtendedLifetime(sum) {}
            }
            done += length
            guard progress(done) else { return }
        }
    }

    /// Takes the pages of `range` out of this process; reading them again brings them back.
    package func release(_ range: Range<Int>) {
        let page = Int(getpagesize())
        let start = range.lowerBound / page * page
        let end = min(range.upperBound, count)
        if start < end { madvise(base + start, end - start, MADV_DONTNEED) }
    }
}

/// What became of a mapped file.
package enum FileDamage: Sendable, Equatable {
    /// Reading failed: the file was cut short, or its disk fails.
    case unreadable
    /// Somebody has written into it.
    case written
    /// Its bytes are not what its digests tell.
    case corrupt
}

/// What tells one file, and one state of its contents, from another under the same path.
package struct FileIdentity: Sendable, Hashable {
    package let device: UInt64
    package let inode: UInt64
    package let size: Int
    /// Nanoseconds since the epoch: when the contents changed; when the contents or anything else about the file did.
    package let modified: Int
    package let changed: Int
    /// Permission bits, and the user who owns it.
    package let mode: UInt32
    package let owner: UInt32

    /// Users other than the owner may write the file.
    package var isWritableByOthers: Bool { mode & 0o022 != 0 }

    /// The same file, whatever it holds now.
    package func isSameFile(as other: FileIdentity) -> Bool {
        device == other.device && inode == other.inode
    }

    static func of(_ descriptor: FileDescriptor, _ path: FilePath) throws(StoreError) -> Self {
        var status = stat()
        guard fstat(descriptor.rawValue, &status) == 0 else {
            throw .io(Errno(rawValue: errno), doing: "examine", path)
        }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .notRegular(path) }
        return Self(status)
    }

    /// The file at `path`, links followed.
    package init(path: FilePath) throws(StoreError) {
        var status = stat()
        guard stat(path.string, &status) == 0 else {
            throw .io(Errno(rawValue: errno), doing: "examine", path)
        }
        guard status.st_mode & S_IFMT == S_IFREG else { throw .notRegular(path) }
        self.init(status)
    }

    private init(_ status: stat) {
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        size = Int(status.st_size)
        modified = status.st_mtim.nanoseconds
        changed = status.st_ctim.nanoseconds
        mode = UInt32(status.st_mode & 0o7777)
        owner = status.st_uid
    }
}

extension timespec {
    var nanoseconds: Int { tv_sec &* 1_000_000_000 &+ tv_nsec }
}
