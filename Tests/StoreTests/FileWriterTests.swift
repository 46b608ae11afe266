// SPDX-License-Identifier: Apache-2.0

import CLinux
import Foundation
import ModelStore
import SystemPackage
import TestSupport
import Testing

@Suite("A file appears whole or not at all")
struct FileWriterTests {
    private let tensors = [
        TensorPlan(name: "a", type: .i8, shape: [100]),
        TensorPlan(packed: "w", rows: 16, columns: 20, sourceType: "F16"),
    ]

    private func writer(
        _ path: FilePath, _ tensors: [TensorPlan]? = nil,
        adding: [(key: String, value: MetadataValue)] = [], replacing: Bool = false,
        nameless: Bool = true
    ) throws -> PackedWriter {
        try PackedWriter(
            path: path, metadata: RandomContents.required + adding,
            tensors: tensors ?? self.tensors, replacing: replacing, nameless: nameless)
    }

    private func write(_ count: Int, to writer: inout PackedWriter) throws {
        try [UInt8](repeating: 1, count: count).withUnsafeBytes { try writer.write($0) }
    }

    /// The bits of a mode that say who may read and write, in octal.
    private func mode(_ path: FilePath) throws -> String {
        String(try FileIdentity(path: path).mode, radix: 8)
    }

    /// Whether the tests' file system has files without a name.
    private func hasNameless(_ directory: FilePath) -> Bool {
        let descriptor = cl_open_nameless(directory.string, 0o600)
        if descriptor >= 0 { close(descriptor) }
        return descriptor >= 0
    }

    @Test(
        "until it is finished there is no file at all, so that no death leaves one",
        arguments: [false, true])
    func nameless(_ replacing: Bool) throws {
        try withDirectory { directory in
            guard hasNameless(directory) else { return }
            let path = directory.appending("m.gguf")
            if replacing { try TestSupport.write([1, 2, 3], to: path) }
            let before = replacing ? ["m.gguf"] : []
            do {
                var dropped = try writer(path, replacing: replacing)
                try write(100, to: &dropped)
                try expectNames(before, in: directory)
            }
            var writer = try writer(path, replacing: replacing)
            try write(164, to: &writer)
            try expectNames(before, in: directory)
            try writer.finish()
            try expectNames(["m.gguf"], in: directory)
            #expect(try mode(path) == String(0o644 & ~permissionMask(), radix: 8))
            try PackedFile(path: path).verify()
        }
    }

    @Test(
        "where files need names, there is one hidden file only its owner may read until it is finished; then one file"
    )
    func finished() throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            var writer = try writer(path, nameless: false)
            try write(100, to: &writer)
            let temporary = try #require(names(in: directory).first)
            #expect(temporary.hasPrefix(".mmfreed-partial-\(getpid())-"))
            #expect(try mode(directory.appending(temporary)) == "600")
            try write(64, to: &writer)
            try writer.finish()
            try expectNames(["m.gguf"], in: directory)
            #expect(try mode(path) == String(0o644 & ~permissionMask(), radix: 8))
            #expect(try PackedFile(path: path).packed["w"]?.scale == 1)
        }
    }

    @Test(
        "what exists is not replaced unasked, nor what comes into being meanwhile",
        arguments: [true, false])
    func notReplaced(_ nameless: Bool) throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            var writer = try writer(path, nameless: nameless)
            try write(164, to: &writer)
            try TestSupport.write([1, 2, 3], to: path)
            #expect(throws: StoreError.exists(path)) { _ = try self.writer(path) }
            do {
                try writer.finish()
                Issue.record("it was replaced")
            } catch { #expect(error as? StoreError == .exists(path)) }
            #expect(try FileIdentity(path: path).size == 3)
            try expectNames(["m.gguf"], in: directory)
        }
    }

    @Test("too few bytes and too many are refused")
    func counts() throws {
        try withDirectory { directory in
            var few = try writer(directory.appending("few.gguf"))
            try write(163, to: &few)
            do {
                try few.finish()
                Issue.record("it was finished")
            } catch {
                #expect(
                    error as? StoreError == .malformed("tensor w is incomplete: 63 of 64 bytes"))
            }
            var many = try writer(directory.appending("many.gguf"))
            try write(164, to: &many)
            do {
                try write(2, to: &many)
                Issue.record("it was written")
            } catch {
                #expect(
                    error as? StoreError
                        == .malformed("2 bytes more than the declared tensors hold"))
            }
        }
    }

    @Test("a scale must be positive and belong to a packed tensor")
    func scales() throws {
        try withDirectory { directory in
            var writer = try writer(directory.appending("m.gguf"))
            for scale in [0, -1, Float.infinity, .nan] {
                #expect(throws: StoreError.self) { try writer.setScale(scale, of: "w") }
            }
            for name in ["a", "x"] {
                #expect(throws: StoreError.malformed("\(name) is not a packed tensor of this file"))
                {
                    try writer.setScale(1, of: name)
                }
            }
        }
    }

    @Test("nothing is begun that the reader would refuse")
    func plans() throws {
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            func refuses(
                _ tensors: [TensorPlan], adding: [(key: String, value: MetadataValue)] = [],
                _ why: String
            ) {
                #expect(throws: StoreError.malformed(why)) {
                    _ = try writer(path, tensors, adding: adding)
                }
            }
            func floats(_ name: String, _ shape: [Int]) -> TensorPlan {
                TensorPlan(name: name, type: .f32, shape: shape)
            }
            for shape in [[], [0], [-1], [1, 1, 1, 1, 1], [1 << 40], [1 << 32, 1 << 32]] {
                refuses([floats("a", shape)], "tensor a cannot have the shape \(shape)")
            }
            let half = [1 << 30, 1 << 29]
            refuses(
                [floats("a", half), floats("b", half)], "tensor b cannot have the shape \(half)")
            refuses(
                [TensorPlan(packed: "w", rows: 1, columns: 8_388_609, sourceType: "F32")],
                "tensor w has 8388609 columns; at most 8388608 are allowed")
            refuses(
                [floats("a", [1]), floats("a", [1])],
                "the tensor name a stands twice or is over 63 bytes long")
            let long = String(repeating: "a", count: 64)
            refuses(
                [floats(long, [1])], "the tensor name \(long) stands twice or is over 63 bytes long"
            )
            for key in [
                FormatKeys.alignment, FormatKeys.hgrnbit.packedNames,
                FormatKeys.hgrnbit.digestModel,
            ] {
                refuses(
                    [], adding: [(key, .uint32(64))],
                    "the key \(key) stands twice or is over 256 bytes long")
            }
            try expectNames([], in: directory)
        }
    }

    @Test("a directory that is not there is named")
    func noDirectory() throws {
        #expect(
            throws: StoreError.destination(
                "/proc/nonexistent/m.gguf",
                "the directory /proc/nonexistent: No such file or directory")
        ) { _ = try writer("/proc/nonexistent/m.gguf") }
    }

    @Test("a file system without room is named with the bytes needed, before and during")
    func full() throws {
        try withDirectory { directory in
            // Only an administrator may mount one, and not in every container.
            guard mount("none", directory.string, "tmpfs", 0, "size=1m") == 0 else { return }
            defer { umount(directory.string) }
            let path = directory.appending("m.gguf")
            let large = [TensorPlan(name: "a", type: .i8, shape: [2 << 20])]
            let error = #expect(throws: StoreError.self) { _ = try writer(path, large) }
            guard case .noSpace(path, let needs, let free) = error else {
                Issue.record("\(error!)")
                return
            }
            #expect(needs > 2 << 20 && free <= 1 << 20)

            let half = [TensorPlan(name: "a", type: .i8, shape: [512 << 10])]
            do {
                var writer = try writer(path, half)
                let size = writer.fileSize
                let other = [UInt8](repeating: 1, count: 800 << 10)
                try TestSupport.write(other, to: directory.appending("other"))
                do {
                    try write(512 << 10, to: &writer)
                    try writer.finish()
                    Issue.record("there was room")
                } catch { #expect(error as? StoreError == .noSpace(path, needs: size, free: 0)) }
            }
            try expectNames(["other"], in: directory)
        }
    }
}
