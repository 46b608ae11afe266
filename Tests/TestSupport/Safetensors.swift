// SPDX-License-Identifier: Apache-2.0

import ModelStore
package import Packer
import SystemPackage

package typealias TensorSpec = (name: String, type: ElementType, shape: [Int], values: [Float])

/// The bytes of a safetensors file. `headerPadding`: extra spaces that move the data.
package func safetensors(_ tensors: [TensorSpec], headerPadding: Int = 0) -> [UInt8] {
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

/// A safetensors file of these tensors, opened.
package func withTensors<R>(
    _ tensors: [TensorSpec], headerPadding: Int = 0, _ body: (SafetensorsFile) throws -> R
) throws -> R {
    try withDirectory { directory in
        let path = directory.appending("t.safetensors")
        try write(safetensors(tensors, headerPadding: headerPadding), to: path)
        return try body(SafetensorsFile(path: path))
    }
}
