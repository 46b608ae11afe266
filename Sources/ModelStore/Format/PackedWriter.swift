// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
package import SystemPackage

/// Writes a packed file: everything is declared first, then the tensors' bytes are streamed in the declared order.
///
/// The bytes go to a file without a name in the destination's directory, which `finish` syncs and puts in its place; until then
/// the destination is untouched. However the process ends, nothing is left of an unfinished file. File systems that have no
/// such files (NFS, older overlays) get a hidden temporary one instead, which a writer that is dropped unfinished removes. The
/// same input gives the same bytes.
package struct PackedWriter: ~Copyable {
    private let path: FilePath
    /// A hidden name beside the destination.
    private let temporary: FilePath
    /// Whether the file has no name at all so far.
    private let isNameless: Bool
    private let descriptor: FileDescriptor
    private let plan: PackPlan
    private var scales: [Float]
    private var digests: [String] = []
    /// The tensor being written, how much of it is there, and its hash.
    private var current = 0
    private var written = 0
    private var digest = Digest()
    private var buffer: [UInt8] = []
    private let replacing: Bool
    private var finished = false

    /// Writes begin and end at multiples of this, so that the page cache holds the file in large folios.
    private static let gather = 4 << 20
    private static let zeros = [UInt8](repeating: 0, count: 64 << 10)

    /// - Parameters:
    ///   - metadata: keys and values in the order to write them; the `hgrnbit.packed.*` and `hgrnbit.digest.*` keys are added.
    ///   - tensors: in the order their bytes will come.
    ///   - replacing: whether `path` may exist, at the beginning or at the end.
    ///   - nameless: whether to ask for a file without a name.
    package init(
        path: FilePath, metadata: [(key: String, value: MetadataValue)], tensors: [TensorPlan],
        replacing: Bool = false, nameless: Bool = true
    ) throws(StoreError) {
        let plan = try PackPlan(metadata: metadata, tensors: tensors)
        if !replacing, access(path.string, F_OK) == 0 { throw .exists(path) }
        let directory = path.removingLastComponent()
        let place = directory.isEmpty ? FilePath(".") : directory
        var space = statvfs()
        if statvfs(place.string, &space) == 0 {
            let free = Int(clamping: space.f_bavail).multipliedReportingOverflow(
                by: Int(space.f_frsize))
            if !free.overflow, free.partialValue < plan.fileSize {
                throw .noSpace(path, needs: plan.fileSize, free: free.partialValue)
            }
        }
        let random = String(UInt64.random(in: .min ... .max), radix: 36)
        let name = path.lastComponent?.string ?? "model"
        let temporary = place.appending(".\(name).partial-\(getpid())-\(random)")
        // It gets its name by way of /proc.
        let asks = nameless && access("/proc/self/fd", X_OK) == 0
        let unnamed = asks ? cl_open_nameless(place.string, 0o600) : -1
        let descriptor: FileDescriptor
        do {
            descriptor =
                unnamed >= 0
                ? FileDescriptor(rawValue: unnamed)
                : try .open(
                    temporary, .readWrite, options: [.create, .exclusiveCreate, .closeOnExec],
                    permissions: [.ownerReadWrite])
        } catch { throw .io(error as? Errno ?? .ioError, doing: "create", temporary) }
        isNameless = unnamed >= 0
        self.path = path
        self.temporary = temporary
        self.descriptor = descriptor
        self.plan = plan
        self.replacing = replacing
        scales = [Float](repeating: 1, count: tensors.count)
        buffer.reserveCapacity(Self.gather)
        // The header's place is left free and written last.
        position = plan.offsets.first ?? plan.dataStart
    }

    deinit {
        try? descriptor.close()
        if !finished, !isNameless { unlink(temporary.string) }
    }

    /// The whole file's size in bytes.
    package var fileSize: Int { plan.fileSize }

    /// Appends bytes to the tensor being written; the next tensor begins when this one is complete.
    package mutating func write(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            guard current < plan.tensors.count else {
                throw .malformed("\(rest.count) bytes more than the declared tensors hold")
            }
            let part = rest.prefix(plan.tensors[current].byteCount - written)
            let slice = UnsafeRawBufferPointer(rebasing: part)
            digest.update(slice)
            try append(slice)
            written += part.count
            rest = rest.dropFirst(part.count)
            if written == plan.tensors[current].byteCount { try endTensor() }
        }
    }

    /// Sets the scale of a packed tensor; any time before `finish`.
    package mutating func setScale(_ scale: Float, of name: String) throws(StoreError) {
        guard let index = plan.tensors.firstIndex(where: { $0.name == name && $0.packed != nil })
        else {
            throw .malformed("\(name) is not a packed tensor of this file")
        }
        guard scale.isFinite, scale > 0 else {
            throw .malformed("tensor \(name) cannot have the scale \(scale); it must be positive")
        }
        scales[index] = scale
    }

    /// Writes the header, makes the file durable and puts it in its place.
    package consuming func finish() throws(StoreError) {
        guard current == plan.tensors.count else {
            throw .malformed(
                "tensor \(plan.tensors[current].name) is incomplete: \(written) of \(plan.tensors[current].byteCount) bytes"
            )
        }
        try flush()
        try store(plan.header(scales: scales, digests: digests), at: 0)
        var mask = mode_t(0o022)
        mask = umask(mask)
        umask(mask)
        try check(fchmod(descriptor.rawValue, 0o644 & ~mask), "set the mode of")
        try check(fsync(descriptor.rawValue), "make durable")
        try install()
        finished = true
        let directory = path.removingLastComponent()
        if let handle = try? FileDescriptor.open(
            directory.isEmpty ? "." : directory, .readOnly, options: [.directory, .closeOnExec])
        {
            fsync(handle.rawValue)
            try? handle.close()
        }
    }

    /// Puts the complete file in its place. A destination that came into being meanwhile is not replaced unwished: linking
    /// refuses it in one step, which renaming does not.
    private func install() throws(StoreError) {
        if isNameless {
            var result = cl_give_name(descriptor.rawValue, path.string)
            // Again: what is synced while it has no name is not there after a crash on every file system (btrfs).
            if result == 0 { return try check(fsync(descriptor.rawValue), "make durable") }
            guard replacing || result != -EEXIST else { throw .exists(path) }
            // Only renaming replaces, and takes a name for it.
            if result == -EEXIST { result = cl_give_name(descriptor.rawValue, temporary.string) }
            guard result == 0 else { throw .io(Errno(rawValue: -result), doing: "name", path) }
            _ = fsync(descriptor.rawValue)
            guard rename(temporary.string, path.string) == 0 else {
                let error = Errno(rawValue: errno)
                unlink(temporary.string)
                throw .io(error, doing: "rename into place", path)
            }
            return
        }
        if !replacing {
            if link(temporary.string, path.string) == 0 {
                unlink(temporary.string)
                return
            }
            guard errno != EEXIST else { throw .exists(path) }
            // A file system without hard links: what is left is the check made at the beginning.
        }
        try check(rename(temporary.string, path.string), "rename into place")
    }

    // MARK: Bytes

    private mutating func endTensor() throws(StoreError) {
        digests.append(digest.finish())
        digest = Digest()
        current += 1
        written = 0
        if current < plan.tensors.count { try pad(to: plan.offsets[current]) }
    }

    /// How far into the file the next byte goes.
    private var position: Int

    /// Bytes until the next write is due.
    private var room: Int { Self.gather - position % Self.gather }

    private mutating func pad(to offset: Int) throws(StoreError) {
        while position < offset {
            let count = min(room, offset - position, Self.zeros.count)
            buffer.append(contentsOf: Self.zeros.prefix(count))
            position += count
            if room == Self.gather { try flush() }
        }
    }

    private mutating func append(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let part = rest.prefix(room)
            // Rebased, it is copied whole and not byte by byte.
            buffer.append(contentsOf: UnsafeRawBufferPointer(rebasing: part))
            position += part.count
            rest = rest.dropFirst(part.count)
            if room == Self.gather { try flush() }
        }
    }

    private mutating func flush() throws(StoreError) {
        try store(buffer, at: position - buffer.count)
        buffer.removeAll(keepingCapacity: true)
    }

    private func store(_ bytes: [UInt8], at offset: Int) throws(StoreError) {
        do { _ = try descriptor.writeAll(toAbsoluteOffset: Int64(offset), bytes) } catch {
            let errno = error as? Errno ?? .ioError
            guard errno == .noSpace else { throw .io(errno, doing: "write", path) }
            throw .noSpace(path, needs: plan.fileSize, free: 0)
        }
    }

    private func check(_ result: Int32, _ doing: String) throws(StoreError) {
        guard result == 0 else { throw .io(Errno(rawValue: errno), doing: doing, path) }
    }
}
