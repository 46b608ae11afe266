// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import ModelStore
import SystemPackage
import Testing

@testable import mmfreectl

@Suite("mmfreectl verify")
struct VerifyTests {
    @Test(
        "a byte that is not five trits is refused by its tensor and place, though its digest is right"
    )
    func trits() throws {
        let path = FilePath(
            "/tmp/mmfreectl-verify-\(getpid())-\(UInt64.random(in: 0 ... .max)).gguf")
        defer { unlink(path.string) }
        func refusal(_ byte: UInt8, at place: Int) throws -> Failure? {
            var writer = try PackedWriter(
                path: path,
                metadata: [
                    (FormatKeys.architecture, .string(Format.architecture)),
                    (FormatKeys.alignment, .uint32(UInt32(Format.alignment))),
                    (FormatKeys.hgrnbit.formatVersion, .uint32(Format.version)),
                ],
                tensors: [
                    // Any byte may be here.
                    TensorPlan(name: "a.weight", type: .i8, shape: [64]),
                    TensorPlan(packed: "b.weight", rows: 16, columns: 400, sourceType: "F32"),
                ], replacing: true)
            var bytes = [UInt8](repeating: 255, count: 64) + [UInt8](repeating: 242, count: 1280)
            bytes[64 + place] = byte
            try bytes.withUnsafeBytes { try writer.write($0) }
            try writer.finish()
            do { try Verify.parse([path.string]).run() } catch { return Failure(error) }
            return nil
        }
        for (byte, place) in [(UInt8(243), 0), (255, 1000), (243, 1279)] {
            let failure = try #require(try refusal(byte, at: place))
            #expect(failure.status == .data)
            #expect(failure.message.contains("tensor b.weight holds \(byte) at byte \(place), "))
        }
        // Trits they are; no model.
        let failure = try #require(try refusal(242, at: 0))
        #expect(failure.message.contains(FormatKeys.hgrnbit.vocabularySize))
    }

    @Test("bytes between the tensors are zeros, and none follow the last")
    func gaps() throws {
        try Program.withDirectory { directory in
            let place = URL(fileURLWithPath: directory + "/m.gguf")
            let whole = try Data(contentsOf: URL(fileURLWithPath: Program.demo))
            let packed = try PackedFile(path: FilePath(Program.demo))
            let sorted = packed.tensors.sorted { $0.offset < $1.offset }
            let ends = sorted.map { $0.offset + $0.byteCount }
            let gap = try #require(
                zip(ends, sorted.dropFirst()).first { $0 < $1.offset }.map { $0.0 })
            var spoilt = whole
            spoilt[gap] = 1
            for (bytes, said) in [
                (spoilt, "byte \(gap), before tensor"),
                (whole + [0], "1 bytes follow the last tensor"),
            ] {
                try bytes.write(to: place)
                let result = try Program.run(["verify", place.path])
                #expect(result.status == 65)
                #expect(result.errors.contains(said), "\(result.errors)")
            }
        }
    }

    @Test("of several files all are looked at; the status is that of the first that is not sound")
    func several() throws {
        try Program.withDirectory { directory in
            let (missing, text) = (directory + "/none.gguf", directory + "/text.gguf")
            try Data("no model at all".utf8).write(to: URL(fileURLWithPath: text))
            let result = try Program.run(["verify", Program.demo, missing, text, Program.demo])
            #expect(result.status == 66)
            #expect(result.lines.count == 2)
            #expect(result.errors.contains("mmfreectl: cannot open \(missing): No such file"))
            #expect(result.errors.contains("mmfreectl: \(text): not a packed model"))
            let json = try Program.run(["verify", "--json", text, Program.demo])
            #expect(json.status == 65)
            #expect(json.lines.first?.contains("\"error\":\"\(text): not a packed model") == true)
            #expect(json.lines.last?.contains("\"digest\":\"") == true)
            #expect(try Program.run(["verify", Program.demo, Program.demo]).status == 0)
        }
    }
}
