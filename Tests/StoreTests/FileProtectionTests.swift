// SPDX-License-Identifier: Apache-2.0

import CLinux
import Foundation
import SystemPackage
import TestSupport
import Testing

@testable import ModelStore

@Suite("Files that other users may write")
struct FileProtectionTests {
    private static let content = (0..<5 << 20).map {
        UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7)
    }

    private func withFile(mode: mode_t, _ body: (FilePath) throws -> Void) throws {
        try withDirectory { directory in
            let path = directory.appending("f")
            try write(Self.content, to: path)
            #expect(chmod(path.string, mode) == 0)
            try body(path)
        }
    }

    private func bytes(_ file: MappedFile) -> [UInt8] { file.withBytes { Array($0) } }

    @Test(
        "a file of this user's that only it may write is mapped itself",
        arguments: UntrustedFiles.allCases)
    func trusted(_ untrusted: UntrustedFiles) throws {
        try withFile(mode: 0o644) { path in
            let file = try MappedFile(path: path, untrusted: untrusted)
            #expect(file.protection == .plain)
            #expect(!file.isCopy)
            let identity = try FileIdentity(path: path)
            #expect(file.identity == identity)
        }
    }

    @Test(
        "one that others may write is refused with the reason, copied, or mapped, as is wanted",
        arguments: [0o664, 0o646] as [mode_t])
    func policies(_ mode: mode_t) throws {
        try withFile(mode: mode) { path in
            #expect(
                throws: StoreError.untrusted(path, "may be written by users other than its owner")
            ) {
                try MappedFile(path: path, untrusted: .refuse)
            }
            let itself = try MappedFile(path: path, untrusted: .allow)
            #expect(itself.protection == .plain)
            let copy = try MappedFile(path: path, untrusted: .copy)
            #expect(copy.protection == .sealed)
            #expect(copy.isCopy)
            let identity = try FileIdentity(path: path)
            #expect(copy.source == identity)
            #expect(bytes(copy) == Self.content)
            // What becomes of the file then is no matter of the copy's.
            try write([1], to: path)
            #expect(itself.damage != nil)
            #expect(copy.damage == nil)
            #expect(bytes(copy) == Self.content)
        }
    }

    @Test(
        "one that belongs to neither root nor this user is not trusted", .enabled(if: getuid() == 0)
    )
    func owner() throws {
        try withFile(mode: 0o644) { path in
            #expect(chown(path.string, 65534, 65534) == 0)
            #expect(
                throws: StoreError.untrusted(
                    path, "belongs to user 65534, who may write into it, and not to root")
            ) {
                try MappedFile(path: path, untrusted: .refuse)
            }
            let copy = try MappedFile(path: path, untrusted: .copy)
            #expect(copy.protection == .sealed)
            let own = try MappedFile(path: path, untrusted: .refuse, user: 65534)
            #expect(own.protection == .plain)
        }
    }

    @Test("nobody can change a sealed copy, through the descriptor that is handed out or any other")
    func sealed() throws {
        try withFile(mode: 0o666) { path in
            let copy = try MappedFile(path: path, untrusted: .copy)
            let descriptor = copy.descriptor.rawValue
            #expect(fcntl(descriptor, F_GETFL) & O_ACCMODE == O_RDONLY)
            #expect(fcntl(descriptor, F_GETFD) == FD_CLOEXEC)
            #expect(ftruncate(descriptor, 0) == -1)
            #expect(Foundation.write(descriptor, [1], 1) == -1)
            #expect(
                mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0) == MAP_FAILED)
            // F_ADD_SEALS
            #expect(fcntl(descriptor, 1033, 0x10) == -1)
            // Root may open it for writing, and can do no more with that.
            let again = open("/proc/self/fd/\(descriptor)", O_RDWR)
            if again >= 0 {
                #expect(Foundation.write(again, [1], 1) == -1)
                #expect(ftruncate(again, 0) == -1)
                #expect(mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0) == MAP_FAILED)
                close(again)
            }
            #expect(bytes(copy) == Self.content)
        }
    }

    @Test("a copy goes with its last mapping; one that is interrupted leaves nothing")
    func memory() throws {
        try withFile(mode: 0o666) { file in
            let path = FilePath(file.string + "-\(UInt32.random(in: .min ... .max))")
            #expect(rename(file.string, path.string) == 0)
            let memory = FilePath("/memfd:\(path.lastComponent!.string) (deleted)")
            #expect(throws: StoreError.io(.canceled, doing: "copy into memory", path)) {
                try MappedFile(path: path, untrusted: .copy) { false }
            }
            #expect(openDescriptors(of: memory) == 0)
            var copy: MappedFile? = try MappedFile(path: path, untrusted: .copy)
            #expect(openDescriptors(of: memory) == 1)
            #expect(openDescriptors(of: path) == 0)
            #expect(copy != nil)
            copy = nil
            #expect(openDescriptors(of: memory) == 0)
        }
    }

    @Test("a file that claims more than half of the memory is refused, not copied")
    func sparse() throws {
        let path = FilePath("/dev/shm/mmfreed-test-\(getpid())-untrusted")
        try write([1], to: path)
        defer { unlink(path.string) }
        #expect(chmod(path.string, 0o666) == 0)
        for size in [1 << 50, Int.max] where truncate(path.string, off_t(size)) == 0 {
            #expect(throws: StoreError.io(.noMemory, doing: "copy into memory", path)) {
                try MappedFile(path: path, untrusted: .copy)
            }
        }
    }
}
