// SPDX-License-Identifier: Apache-2.0
//
// Whose files may be mapped: a file that somebody else may write changes under the model it holds. So such a file is refused, or
// copied once into memory that is sealed, as the administrator wants it.

import CLinux
import Glibc
import Synchronization
package import SystemPackage

/// What keeps a file's bytes from changing while they are mapped.
package enum FileProtection: Sendable, Equatable {
    /// Nothing but its permissions: a change is noticed, not prevented.
    case plain
    /// The seals of a file in memory.
    case sealed
    /// fs-verity.
    case verity

    init(_ descriptor: FileDescriptor) {
        if cl_is_sealed(descriptor.rawValue) != 0 {
            self = .sealed
        } else {
            self = cl_has_verity(descriptor.rawValue) != 0 ? .verity : .plain
        }
    }
}

/// What becomes of a file that users may write who are neither root nor this process's user.
package enum UntrustedFiles: String, Sendable, CaseIterable {
    /// It is mapped like any other.
    case allow
    /// A sealed copy in memory is mapped in its stead.
    case copy
    case refuse
}

extension FileIdentity {
    /// Why users other than root and `user` may change the file's bytes; `nil` if they may not.
    package func distrust(user: UInt32) -> String? {
        if isWritableByOthers { return "may be written by users other than its owner" }
        guard owner != 0, owner != user else { return nil }
        return "belongs to user \(owner), who may write into it, and not to root"
    }
}

extension MappedFile {
    /// Maps the file at `path`, or does what `untrusted` says if users other than root and `user` may write it.
    ///
    /// - Parameter step: run while it is copied; returns false to stop.
    package convenience init(
        path: FilePath, untrusted: UntrustedFiles, user: UInt32 = getuid(),
        step: () -> Bool = { true }
    ) throws(StoreError) {
        let file = try Self.open(path)
        var copy: (descriptor: FileDescriptor, source: FileIdentity)?
        do throws(StoreError) {
            let source = try FileIdentity.of(file, path)
            if untrusted != .allow, FileProtection(file) == .plain,
                let reason = source.distrust(user: user)
            {
                guard untrusted == .copy else { throw .untrusted(path, reason) }
                copy = (try SealedCopy.make(of: file, source, path, step), source)
            }
        } catch {
            try? file.close()
            throw error
        }
        if copy != nil { try? file.close() }
        try self.init(descriptor: copy?.descriptor ?? file, path: path, copyOf: copy?.source)
    }
}

/// Copies of files in sealed memory. All of them together take at most half of the machine's memory.
enum SealedCopy {
    private static let used = Atomic<Int>(0)
    private static let limit = Int(sysconf(Int32(_SC_PHYS_PAGES))) / 2 * Int(getpagesize())
    private static let window = 4 << 20

    /// - Returns: a descriptor for reading. `discard` is to be called when it is closed.
    static func make(
        of source: FileDescriptor, _ identity: FileIdentity, _ path: FilePath, _ step: () -> Bool
    ) throws(StoreError) -> FileDescriptor {
        // A sparse file may claim any size.
        guard identity.size <= limit else { throw .io(.noMemory, doing: "copy into memory", path) }
        guard used.wrappingAdd(identity.size, ordering: .relaxed).newValue <= limit else {
            discard(identity.size)
            throw .io(.noMemory, doing: "copy into memory", path)
        }
        do throws(StoreError) {
            return try copy(source, identity, path, step)
        } catch {
            discard(identity.size)
            throw error
        }
    }

    static func discard(_ size: Int) { used.wrappingSubtract(size, ordering: .relaxed) }

    private static func copy(
        _ source: FileDescriptor, _ identity: FileIdentity, _ path: FilePath, _ step: () -> Bool
    ) throws(StoreError) -> FileDescriptor {
        func fail(_ error: any Error) -> StoreError {
            .io(error as? Errno ?? .ioError, doing: "copy into memory", path)
        }
        let descriptor = cl_open_memory(path.lastComponent?.string ?? "")
        guard descriptor >= 0 else { throw fail(Errno(rawValue: -descriptor)) }
        let memory = FileDescriptor(rawValue: descriptor)
        defer { try? memory.close() }
        do {
            var buffer = [UInt8](repeating: 0, count: min(window, identity.size))
            var done = 0
            while done < identity.size {
                let count = try buffer.withUnsafeMutableBytes {
                    try source.read(fromAbsoluteOffset: Int64(done), into: $0)
                }
                guard count > 0 else { break }
                _ = try memory.writeAll(buffer[..<min(count, identity.size - done)])
                done += count
                guard step() else { throw Errno.canceled }
            }
        } catch { throw fail(error) }
        // What was copied while somebody wrote is neither the old file nor the new one.
        guard try FileIdentity.of(source, path) == identity else {
            throw .changed(path, .written)
        }
        let sealed = cl_seal_memory(descriptor)
        guard sealed >= 0 else { throw fail(Errno(rawValue: -sealed)) }
        return FileDescriptor(rawValue: sealed)
    }
}
