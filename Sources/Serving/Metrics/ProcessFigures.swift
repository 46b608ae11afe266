// SPDX-License-Identifier: Apache-2.0

import Glibc

/// What the kernel says of this process.
struct ProcessFigures {
    /// Resident memory, model pages included.
    var residentBytes: UInt64 = 0
    /// Resident memory that no file stands behind.
    var privateBytes: UInt64 = 0
    var descriptors = 0
    var processorSeconds = 0.0

    static var now: ProcessFigures {
        var figures = ProcessFigures()
        let page = UInt64(sysconf(Int32(_SC_PAGESIZE)))
        // size, resident, shared …, in pages
        let fields = firstLine("/proc/self/statm").split(separator: " ").map { UInt64($0) ?? 0 }
        if fields.count > 2 {
            figures.residentBytes = fields[1] * page
            figures.privateBytes = (fields[1] - min(fields[1], fields[2])) * page
        }
        figures.descriptors = countEntries("/proc/self/fd")
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        figures.processorSeconds = Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
        return figures
    }

    private static func firstLine(_ path: String) -> String {
        guard let file = fopen(path, "re") else { return "" }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 256)
        guard fgets(&line, Int32(line.count), file) != nil else { return "" }
        return String(
            decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func countEntries(_ path: String) -> Int {
        guard let directory = opendir(path) else { return 0 }
        defer { closedir(directory) }
        var count = 0
        while readdir(directory) != nil { count += 1 }
        // ".", ".." and the one that is being read.
        return max(0, count - 3)
    }
}
