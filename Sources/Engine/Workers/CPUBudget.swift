// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import SystemPackage

/// How many threads this process may keep busy.
package enum CPUBudget {
    /// The numbers of the processors this process was allowed when it first asked.
    static let processors: [Int32] = {
        var numbers = [Int32](repeating: 0, count: 1024)
        let found = Int(cl_allowed_processors(&numbers, Int32(numbers.count)))
        return found > 0 ? Array(numbers.prefix(found)) : [0]
    }()

    /// The processors in the affinity mask, lowered to the cgroup's CPU quota (rounded up) where there is one.
    package static func threads() -> Int {
        max(1, min(processors.count, cgroupQuota() ?? processors.count))
    }

    /// Keeps the calling thread on the processor of worker `worker`.
    ///
    /// - Returns: why that is refused, or `nil`.
    @discardableResult
    static func pin(worker: Int) -> String? {
        let error = cl_pin_thread(processors[worker % processors.count])
        return error < 0 ? String(cString: strerror(-error)) : nil
    }

    /// The CPU quota of the own cgroup (version 2, `cpu.max`: "max 100000" or "150000 100000"), in whole processors.
    private static func cgroupQuota() -> Int? {
        guard let own = read("/proc/self/cgroup") else { return nil }
        for line in own.split(separator: "\n") where line.hasPrefix("0::/") {
            guard let limit = read("/sys/fs/cgroup\(line.dropFirst(3))/cpu.max") else { return nil }
            return quota(cpuMax: limit)
        }
        return nil
    }

    static func quota(cpuMax: String) -> Int? {
        let fields = cpuMax.split(whereSeparator: \.isWhitespace)
        guard fields.count == 2, let quota = Int(fields[0]), let period = Int(fields[1]),
            quota > 0, period > 0
        else { return nil }
        return max(1, (quota - 1) / period + 1)
    }

    private static func read(_ path: String) -> String? {
        guard let file = try? FileDescriptor.open(FilePath(path), .readOnly) else { return nil }
        defer { try? file.close() }
        var bytes = [UInt8](repeating: 0, count: 4096)
        guard let count = try? bytes.withUnsafeMutableBytes({ try file.read(into: $0) }) else {
            return nil
        }
        return String(decoding: bytes[..<count], as: UTF8.self)
    }
}
