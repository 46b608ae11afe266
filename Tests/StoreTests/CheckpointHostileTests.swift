// SPDX-License-Identifier: Apache-2.0

import ModelStore
import Packer
import TestSupport
import Testing

@Suite("Damaged and hostile checkpoint files are refused without harm")
struct CheckpointHostileTests {
    private func parse(_ bytes: [UInt8]) throws -> [SafetensorsEntry] {
        // An allocation of exactly this size, so that a sanitizer sees the first byte too far.
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { copy.deallocate() }
        copy.copyBytes(from: bytes)
        return try SafetensorsFile.parse(UnsafeRawBufferPointer(copy), name: "x")
    }

    private func file(header: String, data: Int) -> [UInt8] {
        let text = Array(header.utf8)
        return (0..<8).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) } + text
            + [UInt8](repeating: 0, count: data)
    }

    @Test(
        "headers that lie",
        arguments: [
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7),
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 9),
            (#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
            (#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8),
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}"#, 8),
            (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}}"#, 8),
            (#"{"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,10]}}"#, 10),
            (#"{"a":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,8]}}"#, 8),
            (#"{"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}}"#, 0),
            (#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}"#, 0),
            (#"{"a":{"dtype":"I32","shape":[1],"data_offsets":[0,8]}}"#, 8),
            (
                #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
                4
            ),
            (
                #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
                8
            ),
            (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8),
            (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#, 4),
            (#"{"a":3}"#, 0), ("[]", 0), ("", 0), ("nul", 0), ("\u{0}", 0),
        ])
    func lies(header: String, data: Int) throws {
        #expect(throws: PackError.self) { try parse(file(header: header, data: data)) }
    }

    @Test("nothing but an honest header passes: cuts, flips and splices of one")
    func mutations() throws {
        let whole = safetensors([
            ("model.embeddings.weight", .bf16, [3, 5], (0..<15).map(Float.init)),
            ("b", .f32, [2], [1, 2]), ("c", .f16, [], [3]), ("empty", .f32, [0, 4], []),
        ])
        let entries = try parse(whole)
        #expect(entries.count == 4)
        for cut in 0..<whole.count {
            #expect(throws: PackError.self) { try parse(Array(whole[..<cut])) }
        }
        var random = SeededGenerator(11)
        var refused = 0
        for _ in 0..<8000 {
            var bytes = whole
            for _ in 0...Int(random.next() % 3) {
                let place = Int(random.next() % UInt64(whole.count - 30))
                switch random.next() % 3 {
                case 0: bytes[place] = UInt8(truncatingIfNeeded: random.next())
                case 1: bytes[place] ^= 1 << UInt8(random.next() % 8)
                default: bytes[place] = Array("{}[],:\"0918".utf8)[Int(random.next() % 11)]
                }
            }
            do {
                // What passes still describes tensors inside the file.
                for entry in try parse(bytes) {
                    #expect(entry.offset >= 0 && entry.offset + entry.byteCount <= bytes.count)
                }
            } catch {
                refused += 1
            }
        }
        #expect(refused > 6000)
    }

    @Test("config.json with any value anywhere gives settings within limits, or an error")
    func config() throws {
        let names = [
            "vocab_size", "hidden_size", "num_hidden_layers", "num_heads", "expand_ratio",
            "hidden_ratio", "intermediate_size", "rms_norm_eps", "max_position_embeddings",
            "bos_token_id", "eos_token_id", "pad_token_id", "use_lower_bound",
            "tie_word_embeddings", "model_type", "architectures", "attn_mode",
        ]
        let values: [JSON] = [
            .null, .bool(true), .bool(false), .integer(0), .integer(-1), .integer(1),
            .integer(7), .integer(4096), .integer(Int.max), .integer(Int.min), .number(1e308),
            .number(-0.0), .number(0.3), .number(.leastNonzeroMagnitude), .string(""),
            .string("hgrn_bit"),
            .array([]), .array([.integer(3)]), .object([]),
        ]
        var random = SeededGenerator(2)
        var accepted = 0
        for _ in 0..<20000 {
            let members = (0...random.next() % 4).map { _ in
                JSON.Member(
                    names[Int(random.next() % UInt64(names.count))],
                    values[Int(random.next() % UInt64(values.count))])
            }
            guard let config = try? CheckpointConfig(.object(members), file: "c") else { continue }
            accepted += 1
            #expect(config.shape.hidden * config.shape.vocabulary <= 1 << 31)
            #expect((1...1 << 17).contains(config.shape.inner))
            #expect(config.shape.layers * config.shape.inner * 4 <= 64 << 20)
        }
        #expect(accepted > 1000)
    }

    @Test(
        "JSON: what is not JSON is refused",
        arguments: [
            "", " ", "{", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "01", "1.", ".5", "+1", "-", "1e",
            "Nan", "-NaN", "infinity", "{/**/}", "// x", "# x", "[1]//",
            "\"\u{1}\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"",
            "tru", "nulll", "1 2", "{\"a\":1,\"a\":2}", "\"abc", "{\"a\":}", "[", "'a'",
        ])
    func notJSON(_ text: String) {
        #expect(throws: JSONError.self) { try JSON(parsing: Array(text.utf8)) }
    }

    @Test(
        "JSON: a whole number is the one that was written, or none",
        arguments: [
            ("7", 7), ("7.0", 7), ("-1e3", -1000), ("9007199254740993", 9_007_199_254_740_993),
            ("9007199254740991.0", 9_007_199_254_740_991), ("9223372036854775807", .max),
            ("9007199254740993.0", nil), ("9223372036854775808", nil),
            ("-9223372036854775809", nil), ("7.5", nil), ("1e300", nil),
        ])
    func wholeNumbers(_ text: String, _ value: Int?) throws {
        #expect(try JSON(parsing: Array(text.utf8)).integer == value)
    }

    @Test("JSON: names that only look alike are different members")
    func alike() throws {
        let json = try JSON(parsing: Array("{\"\u{e9}\":1,\"e\u{301}\":2}".utf8))
        #expect(json.members?.count == 2)
        #expect(json["e\u{301}"]?.integer == 2)
    }

    @Test("JSON: nesting is limited, text survives a round trip")
    func nestingAndText() throws {
        let deep = String(repeating: "[", count: 100_000)
        #expect(throws: JSONError.self) { try JSON(parsing: Array(deep.utf8)) }
        let text = "\u{0}\u{1f}\"\\/\u{7f}\u{2581}\u{1f600}e\u{301}"
        for bytes in [JSON.string(text).written(), JSON.string(text).writtenCompactly()] {
            #expect(try JSON(parsing: bytes).string.map { Array($0.utf8) } == Array(text.utf8))
        }
        #expect(
            try JSON(parsing: Array(#""\ud83d\ude00\u00e9\n""#.utf8)).string == "\u{1f600}\u{e9}\n")
    }
}
