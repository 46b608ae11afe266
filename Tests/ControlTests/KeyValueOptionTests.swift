// SPDX-License-Identifier: Apache-2.0

import Foundation
import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@testable import mmfreectl

@Suite("--key-values")
struct KeyValueOptionTests {
    private func withModel(_ body: (_ directory: String, _ file: String) throws -> Void) throws {
        try Program.withDirectory { directory in
            let file = directory + "/m.gguf"
            _ = try PackJob(
                PackSource(directory: fixtures.appending("bitnet").appending("bn_odd_packed")),
                to: FilePath(file)
            ).run()
            try body(directory, file)
        }
    }

    /// The numbers of a .npy file.
    private func numbers(_ path: String) throws -> [Float] {
        let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        let header = 10 + Int(bytes[8]) + Int(bytes[9]) << 8
        return bytes.dropFirst(header).withUnsafeBytes { bytes in
            (0..<bytes.count / 4).map {
                bytes.loadUnaligned(fromByteOffset: $0 * 4, as: Float.self)
            }
        }
    }

    @Test(
        "bf16 leaves keys and values that are bfloat16, and another perplexity; f32 is the default")
    func bf16() throws {
        try withModel { directory, file in
            func state(_ options: [String]) throws -> [Float] {
                let path = directory + "/s.npy"
                let result = try Program.run(
                    ["logits", file, "--tokens", "5,9,17,33", "--state", "-o", path, "--force"]
                        + options)
                #expect(result.status == 0, "\(result.errors)")
                return try numbers(path)
            }
            let (exact, half) = (try state([]), try state(["--key-values", "bf16"]))
            #expect(try state(["--key-values", "f32"]) == exact)
            #expect(half.allSatisfy { $0.bitPattern & 0xFFFF == 0 } && half.count == exact.count)
            #expect(!exact.allSatisfy { $0.bitPattern & 0xFFFF == 0 })
            let ids = directory + "/ids"
            try Data((0..<60).flatMap { [UInt8($0 * 7 % 130), 0] })
                .write(to: URL(fileURLWithPath: ids))
            func perplexity(_ options: [String]) throws -> Double {
                let result = try Program.run(
                    ["perplexity", file, "--ids", ids, "--json"] + options)
                let json = try JSON(parsing: Array(result.output.utf8))
                return try #require(json["perplexity"]?.number)
            }
            let (wanted, found) = (try perplexity([]), try perplexity(["--key-values", "bf16"]))
            #expect(found != wanted && abs(found / wanted - 1) < 0.05)
        }
    }

    @Test("an unknown type, and one for a model without keys and values, are refused")
    func refused() throws {
        #expect(
            try Program.run(["perplexity", Program.demo, "--ids", "x", "--key-values", "f16"])
                .status == 64)
        try Program.withDirectory { directory in
            let result = try Program.run([
                "logits", Program.demo, "--tokens", "5", "--key-values", "bf16", "-o",
                directory + "/l.npy",
            ])
            #expect(result.status == 64)
            #expect(result.errors.contains("architecture hgrnbit has no keys and values"))
        }
        #expect(
            try Program.run(["eval", "--server", "m", "piqa=x", "--key-values", "bf16"]).status
                == 64)
    }

    @Test("results that are kept of one type are not gone on from with the other")
    func record() throws {
        var kept = EvalRecord(model: "a", keyValues: "bf16", addsBOS: false)
        kept.add([-1, -2], "piqa", digest: "d")
        #expect(
            try EvalRecord(parsing: kept.bytes, model: "a", keyValues: "bf16", addsBOS: false)
                .results("piqa", digest: "d") == [[-1, -2]])
        for other in ["f32", nil] {
            #expect(throws: Failure.self) {
                try EvalRecord(parsing: kept.bytes, model: "a", keyValues: other, addsBOS: false)
            }
        }
        // One that an older version has written of a model with attention is of float32.
        let old = EvalRecord(model: "a", addsBOS: false).bytes
        #expect(throws: Never.self) {
            try EvalRecord(parsing: old, model: "a", keyValues: "f32", addsBOS: false)
        }
        #expect(throws: Failure.self) {
            try EvalRecord(parsing: old, model: "a", keyValues: "bf16", addsBOS: false)
        }
    }
}
