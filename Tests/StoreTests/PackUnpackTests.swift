// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import Reference
import SystemPackage
import TestSupport
import Testing

@Suite("Unpacking gives a checkpoint that packs to the same model")
struct PackUnpackTests {
    /// Packs, unpacks, packs again; lends both files and the checkpoint between.
    private func roundTrip(
        _ checkpoint: Checkpoint, _ embedding: PackJob.Embedding,
        _ body: (PackedFile, Checkpoint, PackedFile) throws -> Void
    ) throws {
        try withDirectory { directory in
            let first = directory.appending("1.gguf")
            let second = directory.appending("2.gguf")
            let out = directory.appending("out")
            _ = try PackJob(checkpoint, to: first, embedding: embedding).run()
            let file = try PackedFile(path: first)
            try UnpackJob(file, to: out).run()
            let unpacked = try Checkpoint(directory: out)
            _ = try PackJob(unpacked, to: second, embedding: embedding).run()
            try body(file, unpacked, PackedFile(path: second))
        }
    }

    private func sameTernary(_ a: PackedFile, _ b: PackedFile) {
        #expect(a.packed.count == b.packed.count)
        for (name, matrix) in a.packed {
            #expect(b.packed[name]?.scale == matrix.scale, "\(name)")
            #expect(b.digest(of: name) == a.digest(of: name), "\(name)")
        }
    }

    @Test("golden checkpoints come back: same trits, scales, digests", arguments: Golden.models)
    func goldens(_ name: String) throws {
        let checkpoint = try Golden(name).checkpoint()
        try roundTrip(checkpoint, .keep) { first, unpacked, second in
            sameTernary(first, second)
            // Nothing is lost: all tensors of the file are the same, whatever types they came in.
            for tensor in first.tensors {
                #expect(second.digest(of: tensor.name) == first.digest(of: tensor.name))
            }
            var (config, wanted) = (unpacked.config, checkpoint.config)
            (config.name, wanted.name) = (nil, nil)
            #expect(config == wanted)
        }
    }

    @Test("the unpacked checkpoint computes the original's logits")
    func logits() throws {
        let golden = try Golden("b_bf16")
        try roundTrip(golden.checkpoint(), .keep) { _, unpacked, _ in
            let logits = try [golden.checkpoint(), unpacked].map { checkpoint in
                let model = try ReferenceModel(checkpoint)
                var state = model.freshState
                return model.run(golden.ints("input_ids"), state: &state).logits
            }
            #expect(logits[0] == logits[1])
        }
    }

    @Test("every legal kind of checkpoint comes back, with q6 embeddings too")
    func random() throws {
        var random = SeededGenerator(21)
        for seed in 0..<UInt64(16) {
            var made = MadeCheckpoint()
            made.seed = seed
            made.vocabulary = 3 + Int(random.next() % 90)
            made.hidden = 1 + Int(random.next() % 90)
            made.layers = 1 + Int(random.next() % 3)
            made.intermediate = 2 + Int(random.next() % 60)
            made.bound = random.next() % 2 == 0
            made.tied = random.next() % 2 == 0
            made.type = [.f32, .f16, .bf16][Int(random.next() % 3)]
            if !made.bound {
                // 49/36 and its like have no exact quotient: E must come back all the same.
                made.expand =
                    Double(1 + Int(random.next() % 3)) / Double(1 + Int(random.next() % 3))
            }
            guard made.config.shape.inner > 0 else { continue }
            try made.open { checkpoint in
                for embedding in PackJob.Embedding.allCases {
                    try roundTrip(checkpoint, embedding) { first, unpacked, second in
                        sameTernary(first, second)
                        #expect(unpacked.config.shape.inner == checkpoint.config.shape.inner)
                        if embedding == .keep {
                            #expect(unpacked.config.shape.isTied == made.tied)
                            #expect(
                                second.digest(of: "token_embd.weight")
                                    == first.digest(of: "token_embd.weight"))
                        }
                    }
                }
            }
        }
    }

    @Test("a tied model's head, the embedding, does not count as one that was left unconverted")
    func tiedHead() throws {
        var made = MadeCheckpoint()
        made.tied = true
        try made.open { checkpoint in
            try withDirectory { directory in
                let path = directory.appending("m.gguf")
                _ = try PackJob(checkpoint, to: path).run()
                let out = directory.appending("out")
                try UnpackJob(PackedFile(path: path), to: out).run()
                let again = try PackJob(
                    Checkpoint(directory: out), to: path, replacing: true
                ).run()
                #expect(again.alreadyTernary == again.matrices - 1)
                #expect(again.warnings.count == 1)
                #expect(again.warnings[0].hasPrefix("there is no tokenizer"))
            }
        }
    }

    @Test("all-zero matrices and F16 ones too small for F16 come back")
    func oddMatrices() throws {
        for type in [ElementType.f32, .f16, .bf16] {
            var made = MadeCheckpoint()
            made.type = type
            made.edit = { list in
                for k in 0..<list.count {
                    if list[k].name.hasSuffix("0.attn.i_proj.weight") {
                        list[k].values = list[k].values.map { _ in 0 }
                    }
                    if list[k].name.hasSuffix("1.attn.o_proj.weight") {
                        list[k].values = list[k].values.map { $0 * 1e-4 }
                    }
                }
            }
            try made.open { checkpoint in
                try roundTrip(checkpoint, .keep) { first, _, second in sameTernary(first, second) }
            }
        }
    }

    @Test(
        "a tokenizer comes back as the same tables",
        arguments: ["tokenizer.json", "tokenizer.model"])
    func tokenizer(_ name: String) throws {
        let demo = Golden.root.removingLastComponent().appending("demo")
        try withDirectory { directory in
            var made = MadeCheckpoint()
            (made.vocabulary, made.hidden, made.layers) = (4100, 4, 1)
            try made.write(to: directory)
            try write(bytes(of: demo.appending(name)), to: directory.appending(name))
            let checkpoint = try Checkpoint(directory: directory)
            let before = try #require(try TokenizerImport(checkpoint)).vocabulary
            try roundTrip(checkpoint, .keep) { first, unpacked, second in
                let after = try #require(try TokenizerImport(unpacked)).vocabulary
                #expect(
                    after.tokens.elementsEqual(before.tokens) { $0.utf8.elementsEqual($1.utf8) })
                #expect(after.kinds == before.kinds)
                #expect(after.merges.map(\.result) == before.merges.map(\.result))
                #expect(after.merges.map(\.left) == before.merges.map(\.left))
                #expect((after.bos, after.eos, after.unknown) == (1, 2, 0))
                #expect(after.addsBOS && after.addsSpacePrefix)
                #expect(after.kinds[4096...].allSatisfy { $0 == .unused })
                if name == "tokenizer.json" { #expect(first.modelDigest == second.modelDigest) }
            }
        }
    }

    @Test("a directory with something in it is refused; an empty one is used")
    func destination() throws {
        try MadeCheckpoint().open { checkpoint in
            try withDirectory { directory in
                let path = directory.appending("m.gguf")
                let out = directory.appending("out")
                _ = try PackJob(checkpoint, to: path).run()
                let file = try PackedFile(path: path)
                try makeDirectory(out)
                try write([1], to: out.appending("mine"))
                #expect(throws: PackError.destinationExists(out.string)) {
                    try UnpackJob(file, to: out).run()
                }
                #expect(throws: PackError.destinationExists(path.string)) {
                    try UnpackJob(file, to: path).run()
                }
                try expectNames(["mine"], in: out)
                try removeFile(out.appending("mine"))
                try UnpackJob(file, to: out).run()
                try expectNames(["config.json", "model.safetensors"], in: out)
                try expectNames(["m.gguf", "out"], in: directory)
            }
        }
    }

    @Test("cancelled at any point, it leaves nothing")
    func cancelled() throws {
        try MadeCheckpoint().open { checkpoint in
            try withDirectory { directory in
                let path = directory.appending("m.gguf")
                _ = try PackJob(checkpoint, to: path).run()
                let file = try PackedFile(path: path)
                for stop in stride(from: 0, to: 40, by: 6) {
                    var count = 0
                    #expect(throws: PackError.cancelled) {
                        try UnpackJob(file, to: directory.appending("out")).run(isCancelled: {
                            count += 1
                            return count > stop
                        })
                    }
                    try expectNames(["m.gguf"], in: directory)
                }
            }
        }
    }
}
