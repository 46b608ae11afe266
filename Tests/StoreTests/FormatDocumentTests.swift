// SPDX-License-Identifier: Apache-2.0

import CKernels
import Foundation
import ModelStore
import SystemPackage
import TestSupport
import Testing

@Suite("docs/format.md is enough to read a packed file")
struct FormatDocumentTests {
    private static let hasPython: Bool = (try? run(["python3", "-c", ""])) != nil

    @Test("its Python reads trits, scales, q6 rows and facts as we do", .enabled(if: hasPython))
    func python() throws {
        var random = SeededGenerator(1)
        let (rows, columns, width) = (35, 43, 150)
        let trits = (0..<rows * columns).map { _ in Int8(random.next() % 3) - 1 }
        var packed = [UInt8](repeating: 0, count: ck_packed_bytes(rows, columns))
        ck_pack(trits, rows, columns, &packed)
        let row = (0..<width).map { _ in random.gaussian() }
        var coded = [UInt8](repeating: 0, count: ck_q6_row_bytes(width))
        ck_q6_encode(row, width, &coded)
        var values = [Float](repeating: 0, count: width)
        ck_q6_decode(coded, width, &values)
        var contents = RandomContents()
        contents.metadata += [
            ("b", .bool(true)), ("f", .float(0.5)), ("i", .int32s([-1, 7])),
            ("s", .strings(["", "▁é"])),
        ]
        contents.tensors = [
            TensorPlan(name: "x", type: .f16, shape: [2, 3]),
            TensorPlan(packed: "w", rows: rows, columns: columns, sourceType: "BF16"),
            TensorPlan(name: "e", type: .i8, shape: [1, coded.count]),
        ]
        contents.data = [Array(0..<12), packed, coded]
        contents.scales["w"] = 0.375
        try withDirectory { directory in
            let (path, script) = (directory.appending("m.gguf"), directory.appending("read.py"))
            try contents.write(to: path, &random)
            try TestSupport.write(Array((Self.snippets() + Self.report).utf8), to: script)
            let lines = try Self.run(["python3", script.string, path.string])
                .split(separator: "\n", omittingEmptySubsequences: false)
            try #require(lines.count == 6)
            #expect(lines[0].split(separator: " ").compactMap { Int8($0) } == trits)
            #expect(lines[1].split(separator: " ").compactMap { Float($0) } == values)
            #expect(lines[2] == "0.375 BF16 R16K4T5")
            #expect(lines[3] == "True 0.5 [-1, 7] ['', '\\u2581\\xe9']")
            #expect(lines[4] == "[3, 2] 000102030405060708090a0b")
        }
    }

    /// What the document's own code is asked.
    private static let report = """

        import sys
        facts, tensors = read(sys.argv[1])
        at = facts["hgrnbit.packed.names"].index("w")
        rows, columns = facts["hgrnbit.packed.rows"][at], facts["hgrnbit.packed.columns"][at]
        print(*[trit for row in trits(tensors["w"][1], rows, columns) for trit in row])
        print(*[repr(value) for value in q6_row(tensors["e"][1], 150)])
        print(*[facts["hgrnbit.packed." + key][at] for key in ("scales", "dtypes")], facts["hgrnbit.packed.encoding"])
        print(facts["b"], facts["f"], facts["i"], ascii(facts["s"]))
        print(tensors["x"][0], tensors["x"][1].hex())
        """

    private static func snippets() throws -> String {
        let root = FilePath(#filePath).removingLastComponent().appending("../..")
            .lexicallyNormalized()
        let text = try String(
            contentsOfFile: root.appending("docs/format.md").string, encoding: .utf8)
        return text.components(separatedBy: "```python\n").dropFirst()
            .compactMap { $0.components(separatedBy: "```").first }.joined(separator: "\n") + "\n"
    }

    private struct Failed: Error { let status: Int32 }

    private static func run(_ arguments: [String]) throws -> String {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.standardOutput = output
        try process.run()
        let data = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw Failed(status: process.terminationStatus)
        }
        return String(decoding: data, as: UTF8.self)
    }
}
