// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
package import SystemPackage

/// One tensor as a safetensors header describes it, already checked against the file.
package struct SafetensorsEntry: Sendable, Equatable {
    package let name: String
    package let type: ElementType
    package let shape: [Int]
    /// Bytes from the start of the file.
    package let offset: Int
    package let byteCount: Int

    package var count: Int { byteCount / type.size }
}

/// A mapped safetensors file: a little-endian 64-bit length, a JSON header of that length, data.
package final class SafetensorsFile: Sendable {
    /// A published model's header takes some 70 KB; the format itself allows 100 MB.
    package static let headerLimit = 16 << 20

    package let path: FilePath
    /// In order of their data.
    package let entries: [SafetensorsEntry]
    private let file: MappedFile
    private let places: [ByteString: Int]

    package init(path: FilePath) throws(PackError) {
        let file = try InputFile.map(path, .safetensors)
        entries = try file.withBytes { bytes throws(PackError) in
            try Self.parse(bytes, name: path.string)
        }
        places = Dictionary(
            uniqueKeysWithValues: entries.enumerated().map { (ByteString($1.name), $0) })
        self.path = path
        self.file = file
        try checkUnchanged()
    }

    package subscript(name: String) -> SafetensorsEntry? {
        places[ByteString(name)].map { entries[$0] }
    }

    /// Lends the tensor's bytes.
    package func withBytes<R, E: Error>(
        of entry: SafetensorsEntry, _ body: (UnsafeRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        try file.withBytes { bytes throws(E) in
            try body(
                UnsafeRawBufferPointer(
                    rebasing: bytes[entry.offset..<entry.offset + entry.byteCount]))
        }
    }

    /// Throws if the file has been written or cut short since it was opened.
    package func checkUnchanged() throws(PackError) {
        try storing { () throws(StoreError) in try file.checkUnchanged() }
    }

    /// Lets go of the memory behind the tensor; it can be read again.
    package func release(_ entry: SafetensorsEntry) {
        file.release(entry.offset..<entry.offset + entry.byteCount)
    }

    /// Checks a whole file: the header's syntax, and that the tensors fill the data from its first
    /// byte to its last without gap or overlap, each as long as its shape and type say.
    package static func parse(
        _ bytes: UnsafeRawBufferPointer, name: String
    ) throws(PackError) -> [SafetensorsEntry] {
        func broken(_ what: String) -> PackError { .malformed(file: name, what: what) }
        guard bytes.count >= 8 else { throw broken("\(bytes.count) bytes are no safetensors file") }
        let length = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
        guard length <= headerLimit else {
            throw broken("its header claims \(length) bytes; at most \(headerLimit) are read")
        }
        let headerEnd = 8 + Int(length)
        guard headerEnd <= bytes.count else {
            throw broken("its header claims \(length) bytes, the file has \(bytes.count - 8)")
        }
        let header: JSON
        do {
            header = try JSON(
                parsing: UnsafeBufferPointer(
                    rebasing: bytes.bindMemory(to: UInt8.self)[8..<headerEnd]))
        } catch {
            throw broken("header byte \(error.offset): \(error.what)")
        }
        guard let members = header.members else { throw broken("its header is \(header.kind)") }

        let format = header["__metadata__"]?["format"]
        guard format == nil || ["pt", "mlx"].contains(format?.string) else {
            throw .unsupported(
                file: name,
                what:
                    "its format is \(format?.brief ?? ""): other frameworks store matrices transposed; only \"pt\" is read"
            )
        }
        var entries: [SafetensorsEntry] = []
        entries.reserveCapacity(members.count)
        for member in members where !member.name.isSame(as: "__metadata__") {
            entries.append(try entry(member, dataStart: headerEnd, fileEnd: bytes.count, name))
        }
        // Empty tensors share their offset with the next one and come before it.
        entries.sort { ($0.offset, $0.byteCount) < ($1.offset, $1.byteCount) }
        var end = headerEnd
        for entry in entries {
            guard entry.offset == end else {
                throw broken(
                    entry.offset < end
                        ? "\(entry.name.quoted) overlaps the tensor before it"
                        : "there is a gap before \(entry.name.quoted)")
            }
            end += entry.byteCount
        }
        guard end == bytes.count else {
            throw broken("\(bytes.count - end) bytes follow the last tensor")
        }
        return entries
    }

    private static func entry(
        _ member: JSON.Member, dataStart: Int, fileEnd: Int, _ file: String
    ) throws(PackError) -> SafetensorsEntry {
        let name = member.name
        func broken(_ what: String) -> PackError {
            .malformed(file: file, what: "tensor \(name.quoted): \(what)")
        }
        guard let typeName = member.value["dtype"]?.string,
            let dimensions = member.value["shape"]?.array,
            let range = member.value["data_offsets"]?.array
        else { throw broken("dtype, shape or data_offsets is missing") }
        guard let type = ElementType(rawValue: typeName) else {
            throw .wrongType(tensor: "\(file): \(name.quoted)", found: typeName)
        }
        guard dimensions.count <= 8 else { throw broken("\(dimensions.count) dimensions") }
        var shape: [Int] = []
        var byteCount = type.size
        for dimension in dimensions {
            guard let size = dimension.integer, size >= 0 else { throw broken("a bad dimension") }
            let (product, overflow) = byteCount.multipliedReportingOverflow(by: size)
            guard !overflow else { throw broken("its size overflows") }
            byteCount = product
            shape.append(size)
        }
        guard range.count == 2, let begin = range[0].integer, let end = range[1].integer,
            begin >= 0, begin <= end, end <= fileEnd - dataStart
        else { throw broken("its data_offsets do not lie in the file") }
        guard end - begin == byteCount else {
            throw broken(
                "\(typeName) of shape \(shape) takes \(byteCount) bytes, not \(end - begin)")
        }
        return SafetensorsEntry(
            name: name, type: type, shape: shape, offset: dataStart + begin, byteCount: byteCount)
    }
}
