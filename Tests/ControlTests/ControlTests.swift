// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Foundation
import MMFree
import ModelStore
import Packer
import RPC
import SystemPackage
import Testing

@testable import mmfreectl

@Suite("mmfreectl")
struct ControlTests {
    @Test(
        "a NumPy header is a multiple of 64 bytes, ends in a line feed and names the shape",
        arguments: [[3], [3, 4096], [1, 2, 3], [100_000, 32_000]])
    func npy(_ shape: [Int]) {
        let header = NumPy.header(shape: shape)
        #expect(header.count % 64 == 0)
        #expect(Array(header.prefix(8)) == [0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0])
        #expect(Int(header[8]) + Int(header[9]) << 8 == header.count - 10)
        let text = String(decoding: header.dropFirst(10), as: UTF8.self)
        let inside = shape.map(String.init).joined(separator: ", ") + (shape.count == 1 ? "," : "")
        #expect(text.hasPrefix("{'descr': '<f4', 'fortran_order': False, 'shape': (\(inside)), }"))
        #expect(text.hasSuffix("\n"))
    }

    @Test("progress says how far, how long and what")
    func progress() {
        #expect(
            ProgressLine.line(50, of: 200, "blk.1", elapsed: 10, bar: false)
                == " 25 % 30 s left  blk.1")
        #expect(
            ProgressLine.line(1, of: 2, "x", elapsed: 0.5, bar: true)
                == " 50 % [############............]  x")
        #expect(ProgressLine.line(0, of: 0, "x", elapsed: 5, bar: false) == "  0 %  x")
    }

    @Test("tables line up, numbers to the right")
    func table() {
        var table = Table(["NAME", "SIZE", "STATE"], numeric: [1])
        table.add(["demo", "5", "mapped"])
        table.add(["longer", "1234", "ok"])
        #expect(table.text == "NAME    SIZE  STATE\ndemo       5  mapped\nlonger  1234  ok")
    }

    @Test("what a model writes cannot drive a terminal")
    func harmless() {
        #expect(Terminal.harmless("a\tb\nc") == "a\tb\nc")
        #expect(Terminal.harmless("\u{1b}[2Jx\u{7}\r") == "\\x1b[2Jx\\x07\\x0d")
        #expect(Terminal.harmless("\u{7f}\u{9b}0m") == "\\x7f\\x9b0m")
        // Marks that turn the direction, and other line breaks.
        #expect(Terminal.harmless("a\u{202e}b\u{2066}c") == "a\\u{202e}b\\u{2066}c")
        #expect(Terminal.harmless("\u{2028}") == "\\u{2028}")
        #expect(Terminal.harmless("a\tb\nc", keepingLines: false) == "a\\x09b\\x0ac")
    }

    @Test("a cell of a table is one line, and JSON shows no control character")
    func harmlessRows() throws {
        var table = Table(["KEY", "VALUE"])
        table.add(["a\u{1b}[1m", "x\ny"])
        #expect(table.text == "KEY       VALUE\na\\x1b[1m  x\\x0ay")
        let text = try Terminal.json(["a": "\u{1b}\u{9b}\u{202e}é\n"])
        #expect(text == #"{"a":"\u001b\u009b\u202eé\n"}"#)
        let back = try JSONDecoder().decode([String: String].self, from: Data(text.utf8))
        #expect(back == ["a": "\u{1b}\u{9b}\u{202e}é\n"])
    }

    @Test(
        "sizes read as people write them",
        arguments: [(5, "5 bytes"), (1500, "1.50 kB"), (596_900_000, "597 MB")])
    func sizes(_ count: Int, _ text: String) {
        #expect(Terminal.bytes(count) == text)
    }

    @Test(
        "exit statuses are sysexits.h's",
        arguments: [
            (MMFreeError(.noSocket("/x")) as any Error, 69), (MMFreeError(.notAllowed("/x")), 77),
            (MMFreeError(RPCError(.invalidArgument, "")), 64),
            (MMFreeError(RPCError(.notFound, "")), 66),
            (MMFreeError(RPCError(.resourceExhausted, "")), 75),
            (MMFreeError(RPCError(.dataLoss, "")), 65),
            (MMFreeError(RPCError(.internal, "")), 70), (StoreError.notGGUF(""), 65),
            (StoreError.exists("/x"), 73), (StoreError.destination("/x", ""), 73),
            (StoreError.io(.noSuchFileOrDirectory, doing: "open", "/x"), 66),
            (PackError.io(.noSuchFileOrDirectory, doing: "open /x"), 66),
            (PackError.io(.permissionDenied, doing: "open /x"), 77),
            (PackError.io(.ioError, doing: "read /x"), 74),
            (PackError.store(.exists("/x")), 73), (PackError.destinationExists("/x"), 73),
            (PackError.noCheckpoint("/x", why: "no config.json"), 66),
            (PackError.malformed(file: "/x", what: "y"), 65), (PackError.cancelled, 130),
            (StoreError.io(.noSuchFileOrDirectory, doing: "create", "/x"), 73),
            (PackError.io(.noSuchFileOrDirectory, doing: "create /x"), 73),
            (MMFreeError(RPCError(.resourceExhausted, "", reason: "QUEUE_FULL")), 75),
            (MMFreeError(RPCError(.resourceExhausted, "", reason: "FRAME_TOO_LARGE")), 64),
            (MMFreeError(RPCError(.resourceExhausted, "", reason: "ANSWER_TOO_LARGE")), 64),
        ] as [(any Error & Sendable, Int32)])
    func statuses(_ error: any Error & Sendable, _ status: Int32) {
        #expect(Failure(error)?.status.rawValue == status)
    }

    @Test("wrong arguments are refused before anything is done")
    func arguments() {
        for line in [
            ["generate", "a", "--tokens", "1,2"], ["generate", "--tokens", "1,x"],
            ["generate", "--logprobs", "2", "a"],
            ["perplexity", "f"], ["logits", "f", "-o", "x"], ["bench"], ["compare", "a", "b"],
            ["generate", "--timeout", "-1", "a"], ["generate", "--logit-bias", "5", "a"],
            ["pack", "dir"], ["perplexity", "f", "--text", "t", "--limit=-1"],
        ] {
            #expect(throws: (any Error).self, "\(line)") { try Mmfreectl.parseAsRoot(line) }
        }
        #expect(throws: Never.self) {
            try Mmfreectl.parseAsRoot([
                "generate", "-m", "demo", "-n", "5", "--stop", "a", "--stop", "b", "x",
            ])
        }
    }
}
