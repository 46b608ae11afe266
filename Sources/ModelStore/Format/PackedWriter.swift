// SPDX-License-Identifier: Apache-2.0

import Glibc
package import SystemPackage

/// Writes a packed file: everything is declared first, then the tensors' bytes are streamed in the declared order.
///
/// The file appears whole or not at all (`OutputFile`). The same input gives the same bytes.
package struct PackedWriter: ~Copyable {
    private var file: OutputFile
    private let plan: PackPlan
    private var scales: [Float]
    private var digests: [String] = []
    /// The tensor being written, how much of it is there, and its hash.
    private var current = 0
    private var written = 0
    private var digest = Digest()
    private var buffer: [UInt8] = []

    /// Writes begin and end at multiples of this, so that the page cache holds the file in large folios.
    private static let gather = 4 << 20
    private static let zeros = [UInt8](repeating: 0, count: 64 << 10)

    /// - Parameters:
    ///   - metadata: keys and values in the order to write them; the `hgrnbit.packed.*` and `hgrnbit.digest.*` keys are added.
    ///   - tensors: in the order their bytes will come.
    ///   - replacing: whether `path` may exist, at the beginning or at the end.
    ///   - nameless: whether to ask for a file without a name.
    package init(
        path: FilePath, metadata: Facts, tensors: [TensorPlan],
        replacing: Bool = false, nameless: Bool = true
    ) throws(StoreError) {
        let plan = try PackPlan(metadata: metadata, tensors: tensors)
        let file = try OutputFile(path, replacing: replacing, nameless: nameless)
        var space = statvfs()
        if fstatvfs(file.descriptor.rawValue, &space) == 0 {
            let free = Int(clamping: space.f_bavail).multipliedReportingOverflow(
                by: Int(space.f_frsize))
            if !free.overflow, free.partialValue < plan.fileSize {
                throw .noSpace(path, needs: plan.fileSize, free: free.partialValue)
            }
        }
        self.file = file
        self.plan = plan
        scales = [Float](repeating: 1, count: tensors.count)
        buffer.reserveCapacity(Self.gather)
        // The header's place is left free and written last.
        position = plan.offsets.first ?? plan.dataStart
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

    package mutating func write(_ values: [some BitwiseCopyable]) throws(StoreError) {
        try values.span.bytes.withUnsafeBytes { bytes throws(StoreError) in try write(bytes) }
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
        try file.commit()
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
        do { try file.write(bytes, at: offset) } catch {
            guard case .io(.noSpace, _, let path) = error else { throw error }
            throw .noSpace(path, needs: plan.fileSize, free: 0)
        }
    }
}
