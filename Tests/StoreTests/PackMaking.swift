// SPDX-License-Identifier: Apache-2.0

import Foundation
import Packer
import SystemPackage
import Testing

/// Random numbers that are the same every time (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    mutating func unit() -> Float { Float(next() >> 40) / Float(1 << 24) }

    /// Near enough to a normal distribution for weights: the sum of four uniform numbers.
    mutating func gaussian() -> Float {
        let bits = next()
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + bits >> 48
        return (Float(sum) / 65536 - 2) * 1.732
    }
}

typealias TensorSpec = (name: String, type: ElementType, shape: [Int], values: [Float])

/// The bytes of a safetensors file. `headerPadding`: extra spaces that move the data.
func safetensors(_ tensors: [TensorSpec], headerPadding: Int = 0) -> [UInt8] {
    var data: [UInt8] = []
    var members: [JSON.Member] = []
    for tensor in tensors {
        let start = data.count
        for value in tensor.values {
            let bits = value.isNaN ? tensor.type.infinity | 1 : tensor.type.bits(of: value)
            data.append(UInt8(truncatingIfNeeded: bits))
            data.append(UInt8(truncatingIfNeeded: bits >> 8))
            if tensor.type == .f32 {
                data.append(UInt8(truncatingIfNeeded: bits >> 16))
                data.append(UInt8(truncatingIfNeeded: bits >> 24))
            }
        }
        members.append(
            JSON.Member(
                tensor.name,
                .object([
                    JSON.Member("dtype", .string(tensor.type.rawValue)),
                    JSON.Member("shape", .array(tensor.shape.map { .integer($0) })),
                    JSON.Member("data_offsets", .array([.integer(start), .integer(data.count)])),
                ])))
    }
    let header =
        JSON.object(members).writtenCompactly() + [UInt8](repeating: 0x20, count: headerPadding)
    return (0..<8).map { UInt8(truncatingIfNeeded: header.count >> (8 * $0)) } + header + data
}

/// A directory that is gone after `body`.
func withDirectory<R>(_ body: (FilePath) throws -> R) throws -> R {
    var template = Array("/tmp/mmfreed-pack-XXXXXX".utf8CString)
    guard let path = mkdtemp(&template) else { throw Errno(rawValue: errno) }
    let directory = FilePath(platformString: path)
    defer { try? FileManager.default.removeItem(atPath: directory.string) }
    return try body(directory)
}

func makeDirectory(_ path: FilePath) throws {
    try FileManager.default.createDirectory(
        atPath: path.string, withIntermediateDirectories: false)
}

func removeFile(_ path: FilePath) throws {
    try FileManager.default.removeItem(atPath: path.string)
}

/// Expects a directory to hold just this, hidden files counted.
func expectNames(_ names: [String], in directory: FilePath) throws {
    let found = try FileManager.default.contentsOfDirectory(atPath: directory.string).sorted()
    #expect(found == names)
}

func write(_ bytes: [UInt8], to path: FilePath) throws {
    let file = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
    try file.closeAfter { _ = try file.writeAll(bytes) }
}

/// A safetensors file of these tensors, opened.
func withTensors<R>(
    _ tensors: [TensorSpec], headerPadding: Int = 0, _ body: (SafetensorsFile) throws -> R
) throws -> R {
    try withDirectory { directory in
        let path = directory.appending("t.safetensors")
        try write(safetensors(tensors, headerPadding: headerPadding), to: path)
        return try body(SafetensorsFile(path: path))
    }
}
