// SPDX-License-Identifier: Apache-2.0

import Synchronization
package import SystemPackage

/// A packed model, mapped, its container checked: GGUF version 3 as docs/format.md describes it.
///
/// Opening reads the header only. Every length, offset, count, type and string is checked before it is used, and the header's
/// own digest with them; the tensors' bytes are checked by `verify`.
package final class PackedFile: Sendable {
    package let map: MappedFile
    package let metadata: Metadata
    /// In the order of the file.
    package let tensors: [TensorInfo]
    /// The packed ternary matrices by name.
    package let packed: [String: PackedMatrix]
    /// The model's identity: a digest over the whole header, which holds every tensor's digest.
    package let modelDigest: String
    private let byName: [String: Int]
    /// `verify` has found bytes that are not what a digest tells.
    private let isCorrupt = Atomic<Bool>(false)
    private let digests: [String: String]

    package var path: FilePath { map.path }
    package var byteCount: Int { map.count }

    package convenience init(path: FilePath) throws(StoreError) {
        try self.init(MappedFile(path: path))
    }

    package init(_ map: MappedFile) throws(StoreError) {
        let header = try map.withBytes { bytes throws(StoreError) in try Header(map, bytes) }
        self.map = map
        metadata = header.metadata
        tensors = header.tensors
        var byName: [String: Int] = [:]
        for (index, tensor) in tensors.enumerated() { byName[tensor.name] = index }
        self.byName = byName
        packed = try PackedFile.packedMatrices(
            header.metadata, tensorCount: header.tensors.count
        ) { name in byName[name].map { header.tensors[$0] } }
        digests = try PackedFile.digests(header.metadata, of: header.tensors)
        modelDigest = try map.withBytes { bytes throws(StoreError) in
            try PackedFile.checkedModelDigest(header, bytes)
        }
        try map.checkUnchanged()
    }

    package subscript(name: String) -> TensorInfo? { byName[name].map { tensors[$0] } }

    /// What is wrong with the file's bytes, as far as is known; `nil` while results count.
    package var damage: FileDamage? {
        map.damage ?? (isCorrupt.load(ordering: .relaxed) ? .corrupt : nil)
    }

    /// The tensor's first byte; valid while this file lives.
    package func pointer(to tensor: TensorInfo) -> UnsafeRawPointer { map.start + tensor.offset }

    package func bytes(of tensor: TensorInfo) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: pointer(to: tensor), count: tensor.byteCount)
    }

    /// Compares every tensor with its digest; throws `damaged` naming the first that differs, `changed` if the file does not
    /// keep still meanwhile.
    ///
    /// - Parameter progress: told the bytes done and the bytes in all; returns false to stop.
    package func verify(progress: (Int, Int) -> Bool = { _, _ in true }) throws(StoreError) {
        try checkGaps()
        let total = tensors.reduce(0) { $0 + $1.byteCount }
        var done = 0
        for tensor in tensors {
            var digest = Digest()
            let bytes = bytes(of: tensor)
            for start in stride(from: 0, to: bytes.count, by: 4 << 20) {
                let end = min(start + 4 << 20, bytes.count)
                digest.update(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
                done += end - start
                guard progress(done, total) else { return }
            }
            let found = digest.finish()
            try map.checkUnchanged()
            let expected = digests[tensor.name] ?? ""
            guard found == expected else {
                isCorrupt.store(true, ordering: .relaxed)
                throw .damaged("tensor \(tensor.name)", expected: expected.quoted, found: found)
            }
        }
    }

    /// Nothing but zeros lies between the tensors, and nothing behind the last.
    private func checkGaps() throws(StoreError) {
        func damaged(_ what: String) -> StoreError {
            isCorrupt.store(true, ordering: .relaxed)
            return .malformed("\(what): the file is damaged; copy it again")
        }
        let sorted = tensors.sorted { $0.offset < $1.offset }
        var end = sorted.first?.offset ?? map.count
        for tensor in sorted {
            let gap = UnsafeRawBufferPointer(start: map.start + end, count: tensor.offset - end)
            if let place = gap.firstIndex(where: { $0 != 0 }) {
                throw damaged(
                    "byte \(end + place), before tensor \(tensor.name), is \(gap[place]) where a 0 was written"
                )
            }
            end = tensor.offset + tensor.byteCount
        }
        guard end == map.count else {
            throw damaged("\(map.count - end) bytes follow the last tensor")
        }
    }

    /// The digest the file holds for a tensor.
    package func digest(of name: String) -> String? { digests[name] }

    // MARK: Checks of what the metadata says of the tensors

    private static func packedMatrices(
        _ metadata: Metadata, tensorCount: Int, _ tensor: (String) -> TensorInfo?
    ) throws(StoreError) -> [String: PackedMatrix] {
        let encoding = try metadata.string(forKey: metadata.own.packedEncoding)
        guard encoding == Format.packedEncoding else {
            throw .malformed(
                "\(metadata.own.packedEncoding) is '\(encoding.quoted)'; this program reads '\(Format.packedEncoding)'"
            )
        }
        let names = try metadata.strings(forKey: metadata.own.packedNames, atMost: tensorCount)
        let rows = try metadata.uint32s(forKey: metadata.own.packedRows, atMost: tensorCount)
        let columns = try metadata.uint32s(forKey: metadata.own.packedColumns, atMost: tensorCount)
        let scales = try metadata.floats(forKey: metadata.own.packedScales, atMost: tensorCount)
        let types = try metadata.strings(forKey: metadata.own.packedTypes, atMost: tensorCount)
        guard
            [rows.count, columns.count, scales.count, types.count].allSatisfy({ $0 == names.count })
        else {
            throw .malformed(
                "the \(metadata.own.prefix)packed.* arrays differ in length: the file is inconsistent"
            )
        }
        var packed: [String: PackedMatrix] = [:]
        for (index, name) in names.enumerated() {
            guard let info = tensor(name) else {
                throw .malformed(
                    "\(metadata.own.packedNames) names \(name.quoted), which is no tensor of the file"
                )
            }
            let (r, c) = (Int(rows[index]), Int(columns[index]))
            guard info.type == .i8, Format.packedBytes(rows: r, columns: c) == info.byteCount else {
                throw .malformed(
                    "tensor \(name) is \(info.byteCount) bytes of \(info.type), which is not \(r) × \(c) packed trits"
                )
            }
            guard c <= Format.columnLimit else {
                throw .malformed(
                    "tensor \(name) has \(c) columns; at most \(Format.columnLimit) are allowed")
            }
            guard scales[index].isFinite, scales[index] > 0 else {
                throw .malformed(
                    "tensor \(name) has the scale \(scales[index]); it must be positive")
            }
            guard packed[name] == nil else {
                throw .malformed("\(metadata.own.packedNames) names \(name) twice")
            }
            packed[name] = PackedMatrix(
                info: info, rows: r, columns: c, scale: scales[index], sourceType: types[index])
        }
        return packed
    }

    private static func digests(
        _ metadata: Metadata, of tensors: [TensorInfo]
    ) throws(StoreError) -> [String: String] {
        let algorithm = try metadata.string(forKey: metadata.own.digestAlgorithm)
        guard algorithm == Format.digestAlgorithm else {
            throw .malformed(
                "\(metadata.own.digestAlgorithm) is '\(algorithm.quoted)'; this program checks '\(Format.digestAlgorithm)'"
            )
        }
        let names = try metadata.strings(
            forKey: metadata.own.digestNames, atMost: tensors.count)
        let values = try metadata.strings(
            forKey: metadata.own.digestValues, atMost: tensors.count)
        guard names == tensors.map(\.name), values.count == names.count else {
            throw .malformed("\(metadata.own.digestNames) does not name every tensor in order")
        }
        return Dictionary(zip(names, values)) { first, _ in first }
    }

    private static func checkedModelDigest(
        _ header: Header, _ bytes: UnsafeRawBufferPointer
    ) throws(StoreError) -> String {
        let key = header.metadata.own.digestModel
        let expected = try header.metadata.string(forKey: key)
        guard let range = header.metadata.range(of: key), expected.utf8.count == 64 else {
            throw .malformed("\(key) is not a SHA-256 digest")
        }
        let found = Digest.ofHeader(
            UnsafeRawBufferPointer(rebasing: bytes[..<header.dataStart]),
            slot: range.upperBound - 64..<range.upperBound)
        guard found == expected else {
            throw .damaged("the header", expected: expected, found: found)
        }
        return expected
    }
}
