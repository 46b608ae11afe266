// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import SystemPackage

/// What of a mapping is in memory, in bytes, as the kernel counts it for this process (/proc/self/smaps).
package struct MappingUse: Sendable, Equatable {
    /// In this process's page tables (Rss).
    package var resident = 0
    /// The same, each page divided by the number of processes that have it mapped (Pss).
    package var share = 0
    /// Mapped by huge page-table entries (FilePmdMapped).
    package var huge = 0

    package init(resident: Int = 0, share: Int = 0, huge: Int = 0) {
        (self.resident, self.share, self.huge) = (resident, share, huge)
    }

    /// Adds up the areas of `smaps` that lie in each of `ranges`: one mapping may be several.
    package static func read(
        _ smaps: some Sequence<Substring>, _ ranges: [Range<UInt>]
    ) -> [MappingUse] {
        var uses = [MappingUse](repeating: MappingUse(), count: ranges.count)
        var place: Int?
        for line in smaps {
            let fields = line.split(separator: " ", omittingEmptySubsequences: true)
            guard let first = fields.first else { continue }
            guard first.last == ":" else {
                let start = UInt(first.prefix { $0 != "-" }, radix: 16)
                place = start.flatMap { start in ranges.firstIndex { $0.contains(start) } }
                continue
            }
            guard let place, fields.count > 1, let value = Int(fields[1]) else { continue }
            switch first {
            case "Rss:": uses[place].resident += value * 1024
            case "Pss:": uses[place].share += value * 1024
            case "FilePmdMapped:", "ShmemPmdMapped:": uses[place].huge += value * 1024
            default: break
            }
        }
        return uses
    }

    /// - Returns: `nil` where /proc cannot be read.
    package static func of(_ files: [MappedFile]) -> [MappingUse]? {
        guard let file = fopen("/proc/self/smaps", "re") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 4400)
        let lines = AnyIterator<Substring> {
            guard fgets(&line, Int32(line.count), file) != nil else { return nil }
            let bytes = line.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) }
            return Substring(decoding: bytes, as: UTF8.self)
        }
        return read(
            IteratorSequence(lines),
            files.map { file in
                let start = UInt(bitPattern: file.start)
                return start..<start + UInt(file.count)
            })
    }
}

extension MappedFile {
    /// Bytes of the file in the page cache, whoever brought them there; `nil` where the kernel does not tell: some of its versions
    /// tell only who owns the file or may write it.
    package var cachedBytes: Int? {
        let bytes = cl_cached_bytes(
            descriptor.rawValue, UnsafeMutableRawPointer(mutating: start), count)
        return bytes < 0 ? nil : Int(bytes)
    }

    /// Bytes of this mapping that huge page-table entries map now.
    package var hugePageBytes: Int { MappingUse.of([self])?.first?.huge ?? 0 }

    /// Keeps the file's pages in memory; bounded by RLIMIT_MEMLOCK.
    package func lock() throws(StoreError) {
        guard mlock(start, count) == 0 else {
            throw .io(Errno(rawValue: errno), doing: "lock in memory", path)
        }
    }

    package func unlock() { munlock(start, count) }

    /// What to tell the kernel of pages that nobody is going to read for a while.
    package enum Advice: String, Sendable, CaseIterable {
        /// Nothing.
        case keep
        /// They go first when memory is short (MADV_COLD, since Linux 5.4).
        case cold
        /// They go now, but for those that other processes have mapped. MADV_PAGEOUT would be only for the file's owner.
        case drop
    }

    package func advise(_ advice: Advice) {
        let cold: CInt = 20
        switch advice {
        case .keep: break
        case .cold: madvise(UnsafeMutableRawPointer(mutating: start), count, cold)
        case .drop:
            release(0..<count)
            posix_fadvise(descriptor.rawValue, 0, 0, POSIX_FADV_DONTNEED)
        }
    }
}
