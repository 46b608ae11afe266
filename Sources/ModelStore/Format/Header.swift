// SPDX-License-Identifier: Apache-2.0

/// The part of a packed file before its tensors' data, read and checked.
struct Header {
    let metadata: Metadata
    let tensors: [TensorInfo]
    /// Where the data section begins; the tensors' stored offsets count from here.
    let dataStart: Int

    static let tensorLimit = 1 << 17
    /// Bytes of a tensor's name: ggml's GGML_MAX_NAME less its final NUL.
    static let nameLength = 63
    static let dimensionLimit = Int(Int32.max) * 4

    init(_ map: MappedFile, _ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        var reader = ByteReader(bytes, limit: Format.headerLimit)
        guard bytes.starts(with: "GGUF".utf8) else {
            throw .notGGUF(
                ForeignFile.describe(bytes, expected: .gguf)
                    ?? "no GGUF file: it does not begin with \"GGUF\"")
        }
        _ = try reader.skip(4, "the magic number")
        let version = try reader.integer(UInt32.self, "the GGUF version")
        guard version == Format.ggufVersion else {
            if (1...Format.ggufVersion).contains(version.byteSwapped) {
                throw .otherProgram(
                    "its numbers are big-endian (GGUF version \(version.byteSwapped))")
            }
            if version < Format.ggufVersion {
                throw .otherProgram("it is of GGUF version \(version)")
            }
            throw .unsupportedVersion("GGUF", found: version, expected: Format.ggufVersion)
        }
        let tensorCount = try reader.integer(UInt64.self, "the tensor count")
        guard tensorCount <= UInt64(Self.tensorLimit) else {
            throw .malformed("\(tensorCount) tensors; at most \(Self.tensorLimit) are allowed")
        }
        let keyCount = try reader.integer(UInt64.self, "the metadata count")
        var metadata = Metadata(map)
        try metadata.read(keyCount, from: &reader)
        try Self.checkKind(metadata)
        let claims = try Self.claims(Int(tensorCount), from: &reader)
        let padded = (reader.offset + Format.alignment - 1) / Format.alignment * Format.alignment
        guard padded <= bytes.count else {
            throw .truncated(
                "the padding after the header", offset: reader.offset,
                needs: UInt64(padded - reader.offset), has: reader.left)
        }
        self.metadata = metadata
        dataStart = padded
        tensors = try Self.place(claims, from: padded, fileSize: bytes.count)
    }

    private static func checkKind(_ metadata: Metadata) throws(StoreError) {
        guard metadata.contains(FormatKeys.architecture) else {
            throw .otherProgram("\(FormatKeys.architecture) is missing")
        }
        let architecture = try metadata.string(forKey: FormatKeys.architecture)
        guard Format.architectures.contains(architecture) else {
            throw .otherProgram(
                "its architecture is '\(architecture.quoted)', this program reads "
                    + Format.architectures.map { "'\($0)'" }.joined(separator: ", "))
        }
        guard metadata.contains(metadata.own.formatVersion) else {
            throw .otherProgram("\(metadata.own.formatVersion) is missing")
        }
        let version = try metadata.uint32(forKey: metadata.own.formatVersion)
        guard (Format.version...Format.lastVersion).contains(version) else {
            throw .unsupportedVersion(
                "the packed format", found: version, expected: Format.lastVersion)
        }
        let alignment = try metadata.uint32(forKey: FormatKeys.alignment)
        guard alignment == UInt32(Format.alignment) else {
            throw .malformed(
                "\(FormatKeys.alignment) is \(alignment); it must be \(Format.alignment)")
        }
    }

    /// A tensor as its table entry claims it.
    private struct Claim {
        let name: String
        let type: TensorType
        let shape: [Int]
        let offset: UInt64
        let byteCount: Int
    }

    private static func claims(
        _ count: Int, from reader: inout ByteReader
    ) throws(StoreError) -> [Claim] {
        var claims: [Claim] = []
        var names: Set<String> = []
        for _ in 0..<count {
            let name = try reader.string(limit: Self.nameLength, "a tensor's name")
            guard names.insert(name).inserted else {
                throw .malformed("the tensor \(name) stands twice")
            }
            let dimensions = try reader.integer(UInt32.self, "the dimensions of \(name)")
            guard (1...4).contains(dimensions) else {
                throw .malformed("tensor \(name) has \(dimensions) dimensions; 1 to 4 are allowed")
            }
            var shape: [Int] = []
            var elements = 1
            for _ in 0..<dimensions {
                let size = try reader.integer(UInt64.self, "the shape of \(name)")
                let (product, overflow) = elements.multipliedReportingOverflow(
                    by: Int(truncatingIfNeeded: size))
                guard size > 0, size <= UInt64(Self.dimensionLimit), !overflow else {
                    throw .malformed("tensor \(name) has an impossible dimension of \(size)")
                }
                elements = product
                shape.insert(Int(size), at: 0)
            }
            let raw = try reader.integer(UInt32.self, "the type of \(name)")
            guard let type = TensorType(rawValue: raw) else {
                let known = TensorType.othersNames[raw].map { "\($0) (\(raw))" } ?? "\(raw)"
                throw .malformed(
                    "tensor \(name) is of GGUF type \(known); this format uses F32, F16, BF16, I8 and I32"
                )
            }
            let (byteCount, overflow) = elements.multipliedReportingOverflow(by: type.size)
            guard !overflow else { throw .malformed("tensor \(name) is larger than any memory") }
            let offset = try reader.integer(UInt64.self, "the offset of \(name)")
            claims.append(
                Claim(name: name, type: type, shape: shape, offset: offset, byteCount: byteCount))
        }
        return claims
    }

    /// Turns claims into tensors: inside the file, aligned, and none over another.
    private static func place(
        _ claims: [Claim], from dataStart: Int, fileSize: Int
    ) throws(StoreError) -> [TensorInfo] {
        let room = fileSize - dataStart
        var tensors: [TensorInfo] = []
        for claim in claims {
            guard claim.offset % UInt64(Format.alignment) == 0 else {
                throw .malformed(
                    "tensor \(claim.name) begins at \(claim.offset), not on a multiple of \(Format.alignment)"
                )
            }
            guard claim.offset <= UInt64(room), claim.byteCount <= room - Int(claim.offset) else {
                let begin = Int(min(claim.offset, UInt64(room)))
                throw .truncated(
                    "tensor \(claim.name)", offset: dataStart + begin,
                    needs: UInt64(claim.byteCount), has: room - begin)
            }
            tensors.append(
                TensorInfo(
                    name: claim.name, type: claim.type, shape: claim.shape,
                    offset: dataStart + Int(claim.offset), byteCount: claim.byteCount))
        }
        let sorted = tensors.sorted { $0.offset < $1.offset }
        for (first, second) in zip(sorted, sorted.dropFirst())
        where first.offset + first.byteCount > second.offset {
            throw .malformed("tensors \(first.name) and \(second.name) overlap")
        }
        return tensors
    }
}
