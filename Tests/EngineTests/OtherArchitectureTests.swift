// SPDX-License-Identifier: Apache-2.0

import Engine
import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@Suite("A packed model that the engine does not run")
struct OtherArchitectureTests {
    @Test(
        "is refused by its architecture's name, not as a damaged file",
        arguments: [
            ("bn_odd_packed", "bitnet"), ("ll_gqa1_sharded", "llama-bitnet"),
            ("emb_prefix_f32", "qwen3-bitnet"),
        ])
    func refused(_ name: String, _ architecture: String) throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            _ = try PackJob(
                PackSource(directory: fixtures.appending("bitnet").appending(name)), to: path
            ).run()
            let file = try PackedFile(path: path)
            #expect(throws: ModelError.store(.otherArchitecture(architecture))) {
                try Model(file)
            }
            #expect(
                StoreError.otherArchitecture(architecture).description
                    == "architecture \(architecture) is packed and checked, but not served yet")
        }
    }
}
