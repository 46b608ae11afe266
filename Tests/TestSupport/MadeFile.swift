// SPDX-License-Identifier: Apache-2.0

import Glibc
package import ModelStore
package import SystemPackage

/// A small packed file of random tensors, to write, read and break.
package struct MadeFile {
    package var metadata: [(key: String, value: MetadataValue)] = [
        (FormatKeys.architecture, .string("hgrnbit")),
        (FormatKeys.name, .string("made")),
        (FormatKeys.alignment, .uint32(64)),
        (FormatKeys.hgrnbit.formatVersion, .uint32(1)),
        ("test.numbers", .uint32s([1, 2, 3])),
        ("test.texts", .strings(["", "é", "a longer text"])),
        ("test.flag", .bool(true)),
    ]
    package var tensors: [TensorPlan]
    /// One tensor's bytes each.
    package var contents: [[UInt8]]
    package var scales: [String: Float] = [:]

    package init(seed: UInt64) {
        var random = SeededGenerator(seed)
        tensors = []
        contents = []
        for index in 0..<Int.random(in: 1...6, using: &random) {
            let shape = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                Int.random(in: 1...40, using: &random)
            }
            let type = [TensorType.f32, .f16, .bf16, .i8, .i32].randomElement(using: &random)!
            tensors.append(TensorPlan(name: "t\(index)", type: type, shape: shape))
        }
        for index in 0..<2 {
            let (rows, columns) = (
                Int.random(in: 1...70, using: &random), Int.random(in: 1...90, using: &random)
            )
            tensors.append(
                TensorPlan(packed: "m\(index)", rows: rows, columns: columns, sourceType: "BF16"))
            scales["m\(index)"] = Float(index + 1) / 8
        }
        for tensor in tensors {
            contents.append(
                (0..<tensor.byteCount).map { _ in UInt8.random(in: 0...242, using: &random) })
        }
    }

    /// Writes it, `chunk` bytes at a time.
    package func write(to path: FilePath, chunk: Int = 1 << 20, replacing: Bool = false) throws {
        var writer = try PackedWriter(
            path: path, metadata: metadata, tensors: tensors, replacing: replacing)
        for bytes in contents {
            var start = 0
            while start < bytes.count {
                let end = min(start + chunk, bytes.count)
                try Array(bytes[start..<end]).withUnsafeBytes { try writer.write($0) }
                start = end
            }
        }
        for (name, scale) in scales { try writer.setScale(scale, of: name) }
        try writer.finish()
    }
}

/// Opens bytes as a packed file, through a descriptor without a name.
package func openPacked(_ bytes: [UInt8]) throws -> PackedFile {
    let path = FilePath("/tmp/mmfreed-store-\(getpid())-\(UInt64.random(in: .min ... .max))")
    let file = try FileDescriptor.open(
        path, .readWrite, options: [.create, .exclusiveCreate], permissions: [.ownerReadWrite])
    unlink(path.string)
    try file.writeAll(bytes)
    return try PackedFile(MappedFile(descriptor: file, path: path))
}
