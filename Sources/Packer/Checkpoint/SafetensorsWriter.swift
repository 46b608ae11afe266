// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import ModelStore
internal import SystemPackage

/// Writes one safetensors file: what it will hold is declared first, then the data come in that order.
struct SafetensorsWriter: ~Copyable {
    struct Tensor {
        var name: String
        var type: ElementType
        var shape: [Int]

        var byteCount: Int { shape.reduce(type.size, *) }
    }

    private let path: FilePath
    private let descriptor: FileDescriptor
    private var missing: Int

    init(_ path: FilePath, _ tensors: [Tensor]) throws(PackError) {
        var members = [JSON.Member("__metadata__", .object([JSON.Member("format", .string("pt"))]))]
        var offset = 0
        for tensor in tensors {
            let end = offset + tensor.byteCount
            members.append(
                JSON.Member(
                    tensor.name,
                    .object([
                        JSON.Member("dtype", .string(tensor.type.rawValue)),
                        JSON.Member("shape", .array(tensor.shape.map { .integer($0) })),
                        JSON.Member("data_offsets", .array([.integer(offset), .integer(end)])),
                    ])))
            offset = end
        }
        var header = JSON.object(members).writtenCompactly()
        // Spaces up to a multiple of eight keep the data aligned.
        while header.count % 8 != 0 { header.append(0x20) }
        let length = (0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) }
        let descriptor = try NewFile.create(path)
        do {
            try NewFile.write(length + header, to: descriptor, path)
        } catch {
            try? descriptor.close()
            throw error
        }
        self.path = path
        self.descriptor = descriptor
        missing = offset
    }

    deinit { try? descriptor.close() }

    /// The next bytes of the data.
    mutating func append(_ bytes: UnsafeRawBufferPointer) throws(PackError) {
        precondition(bytes.count <= missing, "more data than declared")
        missing -= bytes.count
        try NewFile.write(bytes, to: descriptor, path)
    }

    mutating func append(_ values: [some BitwiseCopyable]) throws(PackError) {
        try values.span.bytes.withUnsafeBytes { bytes throws(PackError) in try append(bytes) }
    }

    /// Makes sure that the file is on the disk.
    mutating func finish() throws(PackError) {
        precondition(missing == 0, "less data than declared")
        try NewFile.sync(descriptor, path)
    }
}

/// Creating and writing files in a directory of our own, with errors that name them.
enum NewFile {
    static func create(_ path: FilePath) throws(PackError) -> FileDescriptor {
        do {
            return try FileDescriptor.open(
                path, .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec],
                permissions: [.ownerReadWrite, .groupRead, .otherRead])
        } catch {
            throw .io(error as? Errno ?? .ioError, doing: "create \(path)")
        }
    }

    static func write(
        _ bytes: some Sequence<UInt8>, to descriptor: FileDescriptor, _ path: FilePath
    ) throws(PackError) {
        do {
            _ = try descriptor.writeAll(bytes)
        } catch {
            throw .io(error as? Errno ?? .ioError, doing: "write \(path)")
        }
    }

    /// Writes a whole small file.
    static func write(_ bytes: [UInt8], to path: FilePath) throws(PackError) {
        let descriptor = try create(path)
        defer { try? descriptor.close() }
        try write(bytes, to: descriptor, path)
        try sync(descriptor, path)
    }

    static func sync(_ descriptor: FileDescriptor, _ path: FilePath) throws(PackError) {
        guard fsync(descriptor.rawValue) == 0 else {
            throw .io(Errno(rawValue: errno), doing: "write \(path) to the disk")
        }
    }
}
