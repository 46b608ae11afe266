// SPDX-License-Identifier: Apache-2.0

import ModelStore
import SystemPackage
import TestSupport
import Testing

@Suite("The sizes a packed file claims")
struct ModelShapeTests {
    /// Writes a file with nothing but sizes and reads them.
    private func read(_ shape: ModelShape) throws -> ModelShape {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            let facts = shape.facts(name: "sizes", embedding: .f32)
            try PackedWriter(path: path, metadata: facts, tensors: []).finish()
            return try ModelShape(PackedFile(path: path).metadata)
        }
    }

    @Test("are those that were written")
    func same() throws {
        var shape = ModelShape(
            vocabulary: 3, hidden: 16, layers: 5, inner: 24, intermediate: 20,
            hasLowerBound: false)
        (shape.heads, shape.context, shape.epsilon, shape.isTied) = (4, 100, 1e-5, true)
        #expect(try read(shape) == shape)
    }

    @Test("a conversation's state is 64 MiB at most")
    func state() throws {
        let most = ModelShape(layers: 128, inner: 1 << 17)
        #expect(try read(most).stateCount * 4 == 64 << 20)
        #expect(
            throws: StoreError.malformed(
                "129 layers and a recurrence 131072 wide make a conversation's state 67633152 bytes; "
                    + "it must be at most 67108864")
        ) { try read(ModelShape(layers: 129, inner: 1 << 17)) }
    }
}
