// SPDX-License-Identifier: Apache-2.0

import Foundation
import ModelStore
import SystemPackage
import TestSupport
import Testing

@Suite("A mapping is of a whole regular file, and outlives its name")
struct MappedFileTests {
    @Test("directories, pipes, devices and empty files are refused, and none is waited for")
    func notRegular() throws {
        try withDirectory { directory in
            let (pipe, empty) = (directory.appending("pipe"), directory.appending("empty"))
            #expect(mkfifo(pipe.string, 0o600) == 0)
            try write([], to: empty)
            for path in [directory, pipe, empty, "/dev/null"] {
                #expect(throws: StoreError.notRegular(path)) { try MappedFile(path: path) }
            }
            let absent = directory.appending("absent")
            #expect(throws: StoreError.io(.noSuchFileOrDirectory, doing: "open", absent)) {
                try MappedFile(path: absent)
            }
        }
    }

    @Test(
        "a sparse file of any size is refused, not tried",
        arguments: [Int.max, .max - 4096, 1 << 62])
    func sparse(_ size: Int) throws {
        // A memory file system takes sizes that disks refuse.
        let path = FilePath("/dev/shm/mmfreed-test-\(getpid())-\(size)")
        let handle = try FileDescriptor.open(
            path, .writeOnly, options: [.create], permissions: .ownerReadWrite)
        defer {
            try? handle.close()
            unlink(path.string)
        }
        guard ftruncate(handle.rawValue, off_t(size)) == 0 else { return }
        #expect(throws: StoreError.io(.noMemory, doing: "map", path)) {
            try MappedFile(path: path)
        }
    }

    @Test("addresses and file offsets agree modulo 2 MiB", arguments: [1, 4096, 5 << 20])
    func aligned(_ size: Int) throws {
        try withDirectory { directory in
            let path = directory.appending("f")
            try write([UInt8](repeating: 9, count: size), to: path)
            let file = try MappedFile(path: path)
            #expect(file.count == size)
            #expect(UInt(bitPattern: file.start) % (2 << 20) == 0)
            #expect(file.start.load(fromByteOffset: size - 1, as: UInt8.self) == 9)
        }
    }

    @Test("bringing it into memory tells how far it is, and stops when told to")
    func prefault() throws {
        try withDirectory { directory in
            let path = directory.appending("f")
            try write([UInt8](repeating: 9, count: 10_000), to: path)
            let file = try MappedFile(path: path)
            var told: [Int] = []
            try file.prefault(window: 4096) {
                told.append($0)
                return true
            }
            #expect(told == [4096, 8192, 10_000])
            told = []
            try file.prefault(window: 4096) {
                told.append($0)
                return $0 < 8192
            }
            #expect(told == [4096, 8192])
            // The kernel takes whole pages only; other windows are read byte by byte.
            try file.prefault(window: 1000)
        }
    }

    @Test("the mapping stays as it is when its path is given to another file, or to none")
    func outlives() throws {
        try withDirectory { directory in
            let (path, next) = (directory.appending("f"), directory.appending("g"))
            try write([1, 1], to: path)
            try write([2, 2], to: next)
            let file = try MappedFile(path: path)
            #expect(rename(next.string, path.string) == 0)
            #expect(file.start.load(as: UInt8.self) == 1)
            #expect(try FileIdentity(path: path) != file.identity)
            try removeFile(path)
            #expect(file.start.load(as: UInt8.self) == 1)
            #expect(throws: StoreError.self) { try FileIdentity(path: path) }
        }
    }

    @Test("who may write a file is known", arguments: [0o644, 0o664, 0o646, 0o400])
    func writable(_ mode: mode_t) throws {
        try withDirectory { directory in
            let path = directory.appending("f")
            try write([1], to: path)
            #expect(chmod(path.string, mode) == 0)
            #expect(try MappedFile(path: path).identity.isWritableByOthers == (mode & 0o022 != 0))
        }
    }

    @Test("what huge pages map is counted in whole ones, for this mapping alone")
    func hugePages() throws {
        try withDirectory { directory in
            let (path, small) = (directory.appending("f"), directory.appending("g"))
            try write([UInt8](repeating: 9, count: 5 << 20), to: path)
            try write([9], to: small)
            let (file, other) = (try MappedFile(path: path), try MappedFile(path: small))
            try file.prefault()
            // Whether there are any is the file system's affair.
            #expect([0, 2 << 20, 4 << 20].contains(file.hugePageBytes))
            #expect(other.hugePageBytes == 0)
        }
    }

    @Test("a packed file gets huge pages as a file written in one piece does")
    func hugePagesOfPackedFiles() throws {
        try withDirectory { directory in
            let (plain, packed) = (directory.appending("f"), directory.appending("g"))
            let size = 32 << 20
            try write([UInt8](repeating: 9, count: size), to: plain)
            let whole = try MappedFile(path: plain)
            try whole.prefault()
            // Not every file system has them, and memory in small pieces has none to give.
            guard whole.hugePageBytes == size else { return }
            var made = MadeFile(seed: 4)
            made.tensors.append(TensorPlan(name: "large", type: .i8, shape: [size]))
            made.contents.append([UInt8](repeating: 9, count: size))
            try made.write(to: packed, chunk: 1_000_003)
            let file = try MappedFile(path: packed)
            try file.prefault()
            #expect(file.hugePageBytes >= size / 4 * 3)
        }
    }

    @Test("two mappings of a file are one copy in memory")
    func shared() throws {
        try withDirectory { directory in
            let path = directory.appending("f")
            try write([UInt8](repeating: 9, count: 4 << 20), to: path)
            let (one, two) = (try MappedFile(path: path), try MappedFile(path: path))
            try one.prefault()
            try two.prefault()
            // A kernel that does not count shares has nothing to say here.
            guard let counts = kibibytes(of: path, ["Rss:", "Pss:"]), counts[1] > 0 else { return }
            #expect(counts[0] == 2 * 4096)
            #expect(counts[1] == 4096)
        }
    }

    /// Sums of /proc/self/smaps lines over the mappings of a file.
    private func kibibytes(of path: FilePath, _ labels: [String]) -> [Int]? {
        guard let smaps = try? String(contentsOfFile: "/proc/self/smaps", encoding: .utf8) else {
            return nil
        }
        var sums = labels.map { _ in 0 }
        var isOurs = false
        for line in smaps.split(separator: "\n") {
            let fields = line.split(separator: " ", omittingEmptySubsequences: true)
            if fields[0].contains("-") { isOurs = line.hasSuffix(path.string) }
            if isOurs, let index = labels.firstIndex(of: String(fields[0])) {
                sums[index] += Int(fields[1]) ?? 0
            }
        }
        return sums
    }
}
