// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import SystemPackage

/// Copying a whole file by whatever is quickest.
package enum FileCopy {
    package enum Kind: String, Sendable, Equatable {
        /// The file system lets both share their blocks until one is written.
        case reflink
        case copy
    }

    private static let window = 16 << 20
    /// What copy_file_range says where it cannot copy: between some file systems, on older kernels, or (0) from what has no size.
    private static let notByCall = [EXDEV, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, 0]

    /// - Parameters:
    ///   - path: of the destination, for messages.
    ///   - progress: told the bytes done and the bytes in all; returns false to stop.
    static func copy(
        _ source: MappedFile, to file: FileDescriptor, _ path: FilePath,
        _ progress: (Int, Int) -> Bool
    ) throws -> Kind {
        let size = source.count
        if cl_clone(file.rawValue, source.descriptor.rawValue) == 0 { return .reflink }
        try checkRoom(file, path, size)
        var (done, byCall) = (0, true)
        while done < size {
            let part = min(window, size - done)
            let count =
                byCall
                ? cl_copy_range(file.rawValue, source.descriptor.rawValue, done, part)
                : try write(source, to: file, done..<done + part)
            switch count {
            case 1...: done += count
            case Int(-EINTR): break
            case _ where byCall && Self.notByCall.contains(Int32(-count)): byCall = false
            case 0: throw StoreError.changed(source.path, .unreadable)
            case Int(-ENOSPC), Int(-EDQUOT):
                throw StoreError.noSpace(path, needs: size, free: free(file) ?? 0)
            default:
                throw StoreError.io(Errno(rawValue: Int32(-count)), doing: "write", path)
            }
            guard progress(done, size) else { throw VersionError.interrupted }
        }
        return .copy
    }

    /// - Returns: the bytes written, or -errno.
    private static func write(
        _ source: MappedFile, to file: FileDescriptor, _ range: Range<Int>
    ) throws(StoreError) -> Int {
        let count = source.withBytes { bytes in
            let part = UnsafeRawBufferPointer(rebasing: bytes[range])
            let count = pwrite(file.rawValue, part.baseAddress, part.count, off_t(range.lowerBound))
            return count < 0 ? Int(-errno) : count
        }
        source.release(range)
        try source.checkUnchanged()
        return count
    }

    private static func free(_ file: FileDescriptor) -> Int? {
        var space = statvfs()
        guard fstatvfs(file.rawValue, &space) == 0 else { return nil }
        let (free, overflow) = Int(clamping: space.f_bavail).multipliedReportingOverflow(
            by: Int(space.f_frsize))
        return overflow ? nil : free
    }

    private static func checkRoom(
        _ file: FileDescriptor, _ path: FilePath, _ size: Int
    ) throws(StoreError) {
        if let free = free(file), free < size { throw .noSpace(path, needs: size, free: free) }
    }
}
