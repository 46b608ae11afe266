// SPDX-License-Identifier: Apache-2.0

import Engine
import Glibc
import ModelStore
import SystemPackage
import Testing

@Suite("The sizes a packed file claims")
struct ModelShapeTests {
    /// Writes a file with nothing but sizes and reads them.
    private func shape(layers: UInt32, inner: UInt32) throws -> ModelShape {
        let path = FilePath("/tmp/mmfreed-shape-\(getpid())-\(UInt64.random(in: 0 ... .max)).gguf")
        defer { unlink(path.string) }
        let writer = try PackedWriter(
            path: path,
            metadata: [
                (FormatKeys.architecture, .string(Format.architecture)),
                (FormatKeys.alignment, .uint32(UInt32(Format.alignment))),
                (FormatKeys.formatVersion, .uint32(Format.version)),
                (FormatKeys.vocabularySize, .uint32(3)), (FormatKeys.embeddingLength, .uint32(16)),
                (FormatKeys.blockCount, .uint32(layers)), (FormatKeys.innerLength, .uint32(inner)),
                (FormatKeys.feedForwardLength, .uint32(20)), (FormatKeys.rmsEpsilon, .float(1e-6)),
                (FormatKeys.useLowerBound, .bool(false)),
            ], tensors: [])
        try writer.finish()
        return try ModelShape(PackedFile(path: path).metadata)
    }

    @Test("a conversation's state is 64 MiB at most")
    func state() throws {
        #expect(try shape(layers: 64, inner: 1 << 18).stateCount * 4 == 64 << 20)
        #expect(
            throws: ModelError.badMetadata(
                "hgrnbit.block_count is 65 and hgrnbit.inner_length 262144: a conversation's state is "
                    + "68157440 bytes; it must be at most 67108864")
        ) { try shape(layers: 65, inner: 1 << 18) }
    }
}
