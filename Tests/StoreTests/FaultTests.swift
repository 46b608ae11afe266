// SPDX-License-Identifier: Apache-2.0

import Foundation
import ModelStore
import Packer
import SystemPackage
import TestSupport
import Testing

@Suite("A mapped file that is cut short or written is told of, and ends no process")
struct FaultTests {
    private func withMapped(
        bytes: Int, _ body: (FilePath, MappedFile) throws -> Void
    ) throws {
        MappedFile.containFaults()
        try withDirectory { directory in
            let path = directory.appending("f")
            try write([UInt8](repeating: 9, count: bytes), to: path)
            try body(path, try MappedFile(path: path))
        }
    }

    private func byte(_ file: MappedFile, _ offset: Int) -> UInt8 {
        file.start.load(fromByteOffset: offset, as: UInt8.self)
    }

    @Test("a page that is gone reads as zero, and the mapping says that it is damaged")
    func cut() throws {
        try withMapped(bytes: 5 << 20) { path, file in
            #expect(file.damage == nil)
            #expect(byte(file, 4 << 20) == 9)
            #expect(truncate(path.string, 100) == 0)
            #expect(byte(file, 4 << 20) == 0)
            #expect(file.damage == .unreadable)
            #expect(throws: StoreError.changed(path, .unreadable)) { try file.checkUnchanged() }
        }
    }

    @Test("a file cut within its last page, which faults nowhere, is told by its size")
    func cutWithinPage() throws {
        try withMapped(bytes: 4000) { path, file in
            #expect(truncate(path.string, 3000) == 0)
            #expect(byte(file, 3500) == 0)
            #expect(file.damage == .written)
        }
    }

    @Test("a write of the same size is told by its time; reading, a new name and removal are none")
    func written() throws {
        try withMapped(bytes: 4096) { path, file in
            _ = byte(file, 0)
            #expect(rename(path.string, path.string + "2") == 0)
            #expect(link(path.string + "2", path.string) == 0)
            #expect(unlink(path.string + "2") == 0)
            #expect(file.damage == nil)
            try passFileTime(in: path.removingLastComponent())
            let handle = try FileDescriptor.open(path, .writeOnly)
            try handle.closeAfter { _ = try handle.writeAll([1]) }
            #expect(file.damage == .written)
        }
    }

    @Test("others' mappings go on, also those of the same file made after the cut")
    func others() throws {
        try withMapped(bytes: 1 << 20) { path, file in
            try withMapped(bytes: 1 << 20) { _, other in
                #expect(truncate(path.string, 4096) == 0)
                #expect(byte(file, 1 << 19) == 0)
                #expect(byte(other, 1 << 19) == 9)
                #expect(other.damage == nil)
                let again = try MappedFile(path: path)
                #expect(again.damage == nil)
            }
        }
    }

    @Test("many threads fault at once while mappings come and go, and each reads a byte or a zero")
    func threads() throws {
        MappedFile.containFaults()
        try withDirectory { directory in
            DispatchQueue.concurrentPerform(iterations: 8) { worker in
                for round in 0..<20 {
                    let path = directory.appending("f\(worker)")
                    guard (try? write([UInt8](repeating: 9, count: 1 << 18), to: path)) != nil,
                        let file = try? MappedFile(path: path)
                    else {
                        Issue.record("cannot make \(path)")
                        return
                    }
                    if round % 2 == 0 { truncate(path.string, 0) }
                    DispatchQueue.concurrentPerform(iterations: 4) { part in
                        let value = byte(file, part << 16)
                        #expect(value == (round % 2 == 0 ? 0 : 9))
                    }
                    #expect((file.damage == nil) == (round % 2 != 0))
                }
            }
        }
    }

    @Test("bringing a file into memory that is cut short meanwhile is an error or damage")
    func prefault() throws {
        for window in [4096, 1000] {
            try withMapped(bytes: 1 << 16) { path, file in
                try? file.prefault(window: window) { done in
                    if done == window { truncate(path.string, 0) }
                    return true
                }
                #expect(file.damage != nil)
                try? file.lock()
            }
        }
    }

    @Test(
        "verify, opening and the tokenizer's tables say that the file changed, at whatever byte it is cut"
    )
    func packed() throws {
        MappedFile.containFaults()
        try withDirectory { directory in
            let path = directory.appending("m.gguf")
            try MadeFile(seed: 4).write(to: path)
            let size = try FileIdentity(path: path).size
            for cut in [0, 1, 4096, size / 2, size - 1] {
                let copy = directory.appending("c\(cut).gguf")
                try FileManager.default.copyItem(atPath: path.string, toPath: copy.string)
                let file = try PackedFile(path: copy)
                #expect(truncate(copy.string, off_t(cut)) == 0)
                #expect {
                    try file.verify()
                } throws: {
                    if case .changed(copy, _) = $0 as? StoreError { true } else { false }
                }
                // What was in the header is still asked for, and never leads out of the mapping.
                for key in file.metadata.keys { _ = file.metadata.describe(key) }
                _ = try? file.metadata.strings(forKey: FormatKeys.hgrnbit.digestNames)
            }
        }
    }

    @Test("the process dies of any other bus error as before, and says where it was")
    func foreign() async throws {
        // A child of this test program: the handler must end it.
        await #expect(processExitsWith: .signal(SIGBUS)) {
            MappedFile.containFaults()
            let path = "/tmp/mmfreed-bus-\(getpid())"
            let file = open(path, O_RDWR | O_CREAT, 0o600)
            unlink(path)
            ftruncate(file, 4096)
            let page = mmap(nil, 4096, PROT_READ, MAP_SHARED, file, 0)!
            ftruncate(file, 0)
            exit(Int32(page.load(as: UInt8.self)))
        }
        let sent = await #expect(
            processExitsWith: .signal(SIGBUS), observing: [\.standardErrorContent]
        ) {
            MappedFile.containFaults()
            raise(SIGBUS)
        }
        let said = String(decoding: sent?.standardErrorContent ?? [], as: UTF8.self)
        #expect(said.contains("bus error (SIGBUS) at address 0x"))
        #expect(said.contains("in no mapped model file"))
    }
}

@Suite("A checkpoint that changes while it is packed")
struct ChangingCheckpointTests {
    @Test(
        "is an error, and no file appears, at whatever tensor it is cut or written over",
        arguments: [0, 1, 4], [true, false])
    func packed(_ tensor: Int, _ isCut: Bool) throws {
        MappedFile.containFaults()
        try withDirectory { directory in
            var made = MadeCheckpoint()
            made.type = .f32
            try made.write(to: directory)
            let weights = directory.appending("model.safetensors")
            let checkpoint = try Checkpoint(directory: directory)
            try passFileTime(in: directory)
            let target = directory.appending("m.gguf")
            var seen: Set<String> = []
            #expect {
                try PackJob(checkpoint, to: target).run(progress: { progress in
                    guard seen.insert(progress.tensor).inserted, seen.count == tensor + 1 else {
                        return
                    }
                    if isCut {
                        truncate(weights.string, 8)
                    } else {
                        guard let file = try? FileDescriptor.open(weights, .writeOnly) else {
                            return
                        }
                        _ = try? file.closeAfter {
                            try file.seek(offset: -8, from: .end)
                            _ = try file.writeAll([1, 2])
                        }
                    }
                })
            } throws: {
                if case .store(.changed(weights, _)) = $0 as? PackError { true } else { false }
            }
            #expect(throws: StoreError.self) { try FileIdentity(path: target) }
        }
    }
}
