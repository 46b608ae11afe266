// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import Reference
import SystemPackage
import TestSupport
import Testing

@Suite("The demonstration model is what its checkpoint was")
struct PackDemoTests {
    private static let root = Golden.root.removingLastComponent().removingLastComponent()
        .removingLastComponent()

    /// models/demo.gguf, and the checkpoint that comes out of it.
    private func demo(_ body: (PackedFile, Checkpoint, Golden) throws -> Void) throws {
        let file = try PackedFile(path: Self.root.appending("models/demo.gguf"))
        try withDirectory { directory in
            let out = directory.appending("demo")
            try UnpackJob(file, to: out).run()
            let golden = try Golden("demo", root: Golden.root.removingLastComponent())
            try body(file, Checkpoint(directory: out), golden)
        }
    }

    @Test("scales, and how many weights are +1 and -1, are the original code's")
    func weights() throws {
        try demo { _, checkpoint, golden in
            for role in checkpoint.config.roles where role.kind == .ternary {
                let tensor = try checkpoint.tensor(named: role.name)
                let rule = try Ternariser().rule(for: tensor)
                let scale = try golden.values("scale." + role.name)
                #expect(rule.alreadyTernary && [rule.scale] == scale)
                let entry = try #require(golden.expected["posneg." + role.name])
                let wanted = golden.expected.withBytes(of: entry) { counts in
                    [0, 8].map { counts.loadUnaligned(fromByteOffset: $0, as: Int64.self) }
                }
                // The sign bit of a BF16 weight is the high bit of its second byte.
                var (plus, minus) = (0, 0)
                tensor.withBytes { bytes in
                    let weights = bytes.assumingMemoryBound(to: UInt16.self)
                    var k = 0
                    while k < weights.count {
                        if weights[k] >> 15 != 0 {
                            minus += 1
                        } else if weights[k] != 0 {
                            plus += 1
                        }
                        k += 1
                    }
                }
                #expect([Int64(plus), Int64(minus)] == wanted, "\(role.name)")
            }
        }
    }

    @Test("it continues a prompt as the original code does")
    func continues() throws {
        try demo { _, checkpoint, golden in
            let model = try ReferenceModel(checkpoint)
            let prompt = try #require(golden.facts["prompts"]?.array?.first)
            let ids = prompt["input_ids"]?.array?.compactMap(\.integer) ?? []
            var state = model.freshState
            let output = model.run(ids, state: &state, logits: .last)
            func close(_ found: [Float], _ name: String) throws {
                let wanted = try golden.values(name)
                #expect(found.count == wanted.count)
                #expect(
                    zip(found, wanted).allSatisfy { abs($0 - $1) < 2e-3 + 1e-3 * abs($1) },
                    "\(name)")
            }
            try close(output.logits[0], "logits.0")
            try close(output.hidden.flatMap { $0 }, "hidden.0")
            try close(output.meanHidden, "embed_mean.0")
            for layer in 0..<5 { try close(state.layers[layer], "state.0.\(layer)") }
            let wanted = prompt["greedy"]?.array?.compactMap(\.integer) ?? []
            #expect(wanted.count == 48)
            #expect(model.greedy(ids, count: 6) == Array(wanted.prefix(6)))
        }
    }

    @Test("it says what it is")
    func facts() throws {
        try demo { file, checkpoint, _ in
            let name = try file.metadata.string(forKey: FormatKeys.name)
            #expect(name == "demo")
            #expect(file.byteCount < 6_000_000)
            #expect(checkpoint.parameterCount == 6_372_864)
            try file.verify()
            let tables = try #require(try TokenizerImport(checkpoint)).vocabulary
            #expect(tables.tokens.count == 4096 && tables.addsBOS)
        }
    }
}
