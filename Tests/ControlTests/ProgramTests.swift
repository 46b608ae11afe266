// SPDX-License-Identifier: Apache-2.0

import Foundation
import ModelStore
import SystemPackage
import TestSupport
import Testing

/// The program as it is built, run as a user runs it.
@Suite("mmfreectl, run")
struct ProgramTests {
    @Test("standard input that cannot be read is an error of input")
    func input() throws {
        let result = try Program.run(["tokenize"], shell: #"exec "$0" "$@" </"#)
        #expect(result.status == 74)
        #expect(result.errors.contains("cannot read standard input: Is a directory"))
    }

    @Test("a text too large for one prompt is refused before it is read")
    func largeText() throws {
        try Program.withDirectory { directory in
            let text = directory + "/text"
            try Data().write(to: URL(fileURLWithPath: text))
            try #require(truncate(text, 3 << 30) == 0)
            let result = try Program.run(["perplexity", Program.demo, "--text", text])
            #expect(result.status == 65)
            #expect(result.errors.contains("3221225472 bytes; a text may have 1073741824"))
        }
    }

    /// The demonstration model's checkpoint, and some of its tokens.
    private func withCheckpoint(_ body: (String, _ ids: String, String) throws -> Void) throws {
        try Program.withDirectory { directory in
            let checkpoint = directory + "/checkpoint"
            #expect(try Program.run(["unpack", Program.demo, "-o", checkpoint]).status == 0)
            let ids = directory + "/ids"
            try Data((0..<8).flatMap { [UInt8($0 * 11 + 3), 1] }).write(
                to: URL(fileURLWithPath: ids))
            try body(checkpoint, ids, directory)
        }
    }

    @Test("compare says by its exit status whether both write the same tokens")
    func compare() throws {
        try withCheckpoint { checkpoint, ids, directory in
            let line = ["--ids", ids, "--limit", "8", "--decode", "4", "--json"]
            let same = try Program.run(["compare", checkpoint, Program.demo] + line)
            #expect(same.status == 0, "\(same.errors)")
            #expect(same.output.contains("\"same_greedy_tokens\":true"))
            // The head's rows in another order name other tokens. What was written is not asked here but by verify.
            let other = URL(fileURLWithPath: directory + "/other.gguf")
            var bytes = try Data(contentsOf: URL(fileURLWithPath: Program.demo))
            let head = try #require(PackedFile(path: FilePath(Program.demo))["output.weight"])
            let place = head.offset..<head.offset + head.byteCount
            bytes.replaceSubrange(place, with: Data(bytes[place].reversed()))
            try bytes.write(to: other)
            let different = try Program.run(["compare", checkpoint, other.path] + line)
            #expect(different.status == 1, "\(different.errors)")
            #expect(different.output.contains("\"same_greedy_tokens\":false"))
        }
    }

    @Test("compare shows beside the file's distance how far the authors' code in bfloat16 is")
    func bfloat16() throws {
        struct Row: Decodable {
            struct Distance: Decodable {
                let norm: Double
                let sameLikeliest, tokens: Int
            }
            let distance: Distance
            let hfBf16: Distance?
        }
        try Program.withDirectory { directory in
            let fixture = Program.root.appendingPathComponent("Tests/Fixtures/bitnet/bn_odd_packed")
                .path
            let (file, ids) = (directory + "/m.gguf", directory + "/ids")
            try #require(Program.run(["pack", fixture, "-o", file]).status == 0)
            // The golden's input_ids.
            let tokens: [UInt8] = [1, 43, 24, 55, 36, 183, 11, 196, 84, 98, 152, 123]
            try Data(tokens.flatMap { [$0, 0] }).write(to: URL(fileURLWithPath: ids))
            let line = ["compare", fixture, file, "--ids", ids, "--decode", "2"]
            let decoder = JSONDecoder()
            decoder.keyDecodingStrategy = .convertFromSnakeCase
            let row = try decoder.decode(
                Row.self, from: Data(Program.run(line + ["--json"]).output.utf8))
            #expect(row.distance.norm < 1e-6 && row.distance.tokens == 12)
            #expect(row.distance.sameLikeliest == 12)
            let bf16 = try #require(row.hfBf16)
            // The authors' code: 0.037 over all twelve.
            #expect(bf16.norm > 0.02 && bf16.norm < 0.06 && bf16.sameLikeliest >= 11)
            let text = try Program.run(line).output
            #expect(text.contains("FROM HF-FP32") && text.contains("HF-bf16"))
            #expect(try !Program.run(line + ["--no-bf16"]).output.contains("HF-bf16"))
        }
    }

    @Test("compare with a checkpoint of fewer tokens is an error of data")
    func smaller() throws {
        try withCheckpoint { _, ids, _ in
            let golden = Program.root.appendingPathComponent("Tests/Fixtures/golden/b_bf16").path
            let result = try Program.run(["compare", golden, Program.demo, "--ids", ids])
            #expect(result.status == 65)
            #expect(result.errors.contains("token 259; the checkpoint's vocabulary has 128"))
        }
    }

    @Test("ids that the model does not have are refused, the last one too")
    func ids() throws {
        try withCheckpoint { checkpoint, ids, directory in
            for (last, status) in [(UInt16(4095), Int32(0)), (4096, 64), (65535, 64)] {
                let bytes = [3, 0, 4, 0, UInt8(last & 255), UInt8(last >> 8)]
                try Data(bytes).write(to: URL(fileURLWithPath: ids))
                for verb in [["perplexity", Program.demo], ["compare", checkpoint, Program.demo]] {
                    let result = try Program.run(verb + ["--ids", ids])
                    #expect(result.status == status, "\(verb): \(result.errors)")
                    let said = "token \(last); the model's vocabulary has 4096"
                    #expect(result.errors.contains(said) == (status != 0))
                }
            }
        }
    }

    @Test("a model whose results overflow is refused")
    func overflow() throws {
        try Program.withDirectory { directory in
            let file = directory + "/huge.gguf"
            try TinyModel.write(to: FilePath(file), scale: 3e38)
            for line in [
                ["perplexity", file, "--text", file + ".txt", "--json"],
                ["logits", file, "--tokens", "5,6", "-o", directory + "/l"],
            ] {
                try Data("abc".utf8).write(to: URL(fileURLWithPath: file + ".txt"))
                let result = try Program.run(line)
                #expect(result.status == 65)
                #expect(result.errors.contains("not finite"), "\(result.errors)")
            }
        }
    }

    @Test("no verb replaces its own input, nor another file unasked")
    func inputs() throws {
        try withCheckpoint { checkpoint, _, directory in
            let model = directory + "/m.gguf"
            let link = directory + "/link"
            try FileManager.default.copyItem(atPath: Program.demo, toPath: model)
            try #require(symlink(checkpoint + "/model.safetensors", link) == 0)
            for line in [
                ["logits", model, "--tokens", "1", "-f", "-o", model],
                ["logits", model, "--text", link, "-f", "-o", link],
                ["bench", model, "-f", "--csv", model],
                ["pack", checkpoint, "-f", "-o", checkpoint + "/model.safetensors"],
                ["pack", checkpoint, "-f", "-o", checkpoint + "/config.json"],
                ["pack", checkpoint, "-f", "-o", link],
            ] {
                let result = try Program.run(line)
                #expect(result.status == 73)
                #expect(result.errors.contains("that is the input"), "\(line): \(result.errors)")
            }
            for line in [["logits", model, "--tokens", "1", "-o"], ["bench", model, "--csv"]] {
                let result = try Program.run(line + [directory + "/ids"])
                #expect(result.status == 73, "\(line): \(result.errors)")
            }
            for verb in [["pack", checkpoint], ["unpack", model]] {
                #expect(try Program.run(verb + ["-o", "-"]).status == 64)
            }
            let here = try Program.run(["unpack", model, "-o", "."])
            #expect(here.errors.contains("cannot write to .:"), "\(here.errors)")
            #expect(try Program.run(["verify", model]).status == 0)
        }
    }

    @Test(
        "compare ended by a signal takes its other process with it", arguments: [SIGTERM, SIGINT])
    func ended(_ signal: Int32) throws {
        try withCheckpoint { checkpoint, ids, directory in
            let process = Process()
            process.executableURL = URL(fileURLWithPath: Program.path("mmfreectl"))
            process.arguments = [
                "compare", checkpoint, Program.demo, "--ids", ids, "--decode", "100000000",
            ]
            process.standardError = FileHandle.nullDevice
            process.environment = ["TMPDIR": directory]
            try process.run()
            let list =
                "/proc/\(process.processIdentifier)/task/\(process.processIdentifier)/children"
            var child: pid_t?
            defer {
                if process.isRunning { kill(process.processIdentifier, SIGKILL) }
                if let child { kill(child, SIGKILL) }
            }
            try waitUntil {
                let text = try String(contentsOfFile: list, encoding: .utf8)
                child = text.split(separator: " ").first.flatMap { pid_t($0) }
                return child != nil
            }
            let other = try #require(child)
            kill(process.processIdentifier, signal)
            try waitUntil { !process.isRunning }
            #expect(process.terminationStatus == 130)
            #expect(kill(other, 0) == -1 && errno == ESRCH)
            let left = try FileManager.default.contentsOfDirectory(atPath: directory)
            #expect(left.sorted() == ["checkpoint", "ids"])
        }
    }
}
