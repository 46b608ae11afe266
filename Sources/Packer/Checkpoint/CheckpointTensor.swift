// SPDX-License-Identifier: Apache-2.0

/// One tensor of a checkpoint: where its values are and how to read them. Nothing is copied until asked.
package struct CheckpointTensor: Sendable {
    package let name: String
    package let entry: SafetensorsEntry
    let file: SafetensorsFile

    package init(_ entry: SafetensorsEntry, in file: SafetensorsFile) {
        name = entry.name
        self.entry = entry
        self.file = file
    }

    package var type: ElementType { entry.type }
    package var shape: [Int] { entry.shape }
    package var count: Int { entry.count }
    package var rows: Int { entry.shape.first ?? 1 }
    package var columns: Int { rows == 0 ? 0 : count / rows }

    /// Lends the bytes as stored: little-endian elements, row-major.
    package func withBytes<R, E: Error>(
        _ body: (UnsafeRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        try file.withBytes(of: entry, body)
    }

    /// Lets go of the memory behind the tensor; it can be read again.
    package func release() { file.release(entry) }

    /// Widens the elements of `range` (flat, row-major) to `out`, exactly.
    package func copyFloats(_ range: Range<Int>, to out: UnsafeMutablePointer<Float>) {
        precondition(range.lowerBound >= 0 && range.upperBound <= count)
        switch type {
        case .f32:
            withElements(of: Float.self, range) { values in
                guard let base = values.baseAddress else { return }
                out.update(from: base, count: values.count)
            }
        case .f16:
            withElements(of: UInt16.self, range) { values in
                var k = 0
                while k < values.count {
                    out[k] = Float(Float16(bitPattern: values[k]))
                    k &+= 1
                }
            }
        case .bf16:
            withElements(of: UInt16.self, range) { values in
                var k = 0
                while k < values.count {
                    out[k] = Float(bitPattern: UInt32(values[k]) << 16)
                    k &+= 1
                }
            }
        case .i8, .u8, .i64: preconditionFailure("checked when the checkpoint was opened")
        }
    }

    /// All elements, widened exactly. Refuses NaN and infinity.
    package func floats() throws(PackError) -> [Float] {
        let values = [Float](unsafeUninitializedCapacity: count) { buffer, initialized in
            if let base = buffer.baseAddress { copyFloats(0..<count, to: base) }
            initialized = count
        }
        try file.checkUnchanged()
        try checkFinite(values, from: 0)
        return values
    }

    /// Throws if any of `values`, the elements from index `start` on, is NaN or infinite.
    package func checkFinite(_ values: [Float], from start: Int) throws(PackError) {
        if let place = values.firstIndex(where: { !$0.isFinite }) {
            throw .notFinite(tensor: name, index: start + place, value: "\(values[place])")
        }
    }

    /// The stored elements of `range`, copied only if the file has them at an odd address.
    func withElements<Element: BitwiseCopyable, Result>(
        of element: Element.Type, _ range: Range<Int>,
        _ body: (UnsafeBufferPointer<Element>) -> Result
    ) -> Result {
        withBytes { bytes in
            let size = MemoryLayout<Element>.stride
            let slice = UnsafeRawBufferPointer(
                rebasing: bytes[range.lowerBound * size..<range.upperBound * size])
            guard let base = slice.baseAddress, !range.isEmpty else {
                return body(UnsafeBufferPointer(start: nil, count: 0))
            }
            if UInt(bitPattern: base) % UInt(MemoryLayout<Element>.alignment) == 0 {
                return body(slice.assumingMemoryBound(to: Element.self))
            }
            return withUnsafeTemporaryAllocation(of: Element.self, capacity: range.count) { copy in
                UnsafeMutableRawBufferPointer(copy).copyMemory(from: slice)
                return body(UnsafeBufferPointer(copy))
            }
        }
    }
}
