// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import SystemPackage
import TestSupport
import Testing

@Suite("What of a file is in memory is told as the kernel counts it, or not at all")
struct ResidencyTests {
    @Test("a mapping's areas are added up, and no other's")
    func parsed() {
        let text = """
            7f0000000000-7f0000200000 r--s 00000000 fe:00 12 /srv/a b.gguf
            Size:               2048 kB
            Rss:                1000 kB
            Pss:                 500 kB
            FilePmdMapped:         0 kB
            VmFlags: rd sh mr mw me ms
            7f0000200000-7f0000300000 r--s 00200000 fe:00 12 /srv/a b.gguf
            Rss:                  24 kB
            Pss:                  12 kB
            FilePmdMapped:         8 kB
            7f0000300000-7f0000400000 rw-p 00000000 00:00 0
            Rss:                 999 kB
            Pss:                 999 kB
            55d000000000-55d000001000 r--p 00000000 fe:00 9 /bin/x
            Rss:                   4 kB
            Pss:                   2 kB
            ShmemPmdMapped:        4 kB
            """
        let uses = MappingUse.read(
            text.split(separator: "\n"),
            [0x7f00_0000_0000..<0x7f00_0030_0000, 0x55d0_0000_0000..<0x55d0_0000_1000, 1..<2])
        #expect(
            uses == [
                MappingUse(resident: 1024 << 10, share: 512 << 10, huge: 8 << 10),
                MappingUse(resident: 4 << 10, share: 2 << 10, huge: 4 << 10), MappingUse(),
            ])
    }

    /// A file of 8 MiB on the disk, mapped.
    private func withFile(_ body: (MappedFile) throws -> Void) throws {
        try withDirectory { directory in
            let path = directory.appending("f")
            try write((0..<(8 << 20)).map { UInt8(truncatingIfNeeded: $0 / 7) }, to: path)
            let handle = open(path.string, O_RDONLY)
            fsync(handle)
            close(handle)
            try body(MappedFile(path: path))
        }
    }

    @Test("what is read is resident; what is given up is not, and comes back when it is read")
    func dropped() throws {
        try withFile { file in
            try file.prefault()
            #expect(try #require(file.cachedBytes) == file.count)
            #expect(try #require(MappingUse.of([file])?.first).resident == file.count)
            #expect(try #require(MappingUse.of([file])?.first).share == file.count)
            file.advise(.cold)
            #expect(file.cachedBytes == file.count)
            file.advise(.drop)
            #expect(try #require(MappingUse.of([file])?.first).resident == 0)
            // Without a disk (major number 0), as tmpfs is, there is nowhere to drop to.
            if file.identity.device >> 8 & 0xFFF != 0 { #expect(file.cachedBytes == 0) }
            #expect(
                file.start.load(fromByteOffset: 7 << 20, as: UInt8.self)
                    == UInt8(truncatingIfNeeded: (7 << 20) / 7))
        }
    }
}
