// SPDX-License-Identifier: Apache-2.0

import Glibc
import MMFree
import ModelStore
import SystemPackage

/// What this process can find out about a model in memory besides what the daemon tells: root sees more than the daemon does.
struct Residency {
    /// How many processes have a file mapped.
    struct Count: Equatable {
        var processes = 0
        /// All that there are were looked at.
        var isComplete = true
    }

    /// Bytes of the file in the page cache; `nil` if neither the daemon nor this process is told.
    let cached: UInt64?
    /// `nil` for a model that the daemon has not mapped.
    let count: Count?

    /// - Parameters:
    ///   - processes: which process has which files mapped.
    init(_ model: ModelInfo, _ processes: Processes) {
        guard model.inode != 0, model.state == .mapped || model.state == .loading else {
            (cached, count) = (nil, nil)
            return
        }
        var (cached, key) = (
            model.cachedBytes, Processes.Key(device: model.device, inode: model.inode)
        )
        // The same file as the daemon's, not what has been put in its place.
        if let map = try? MappedFile(path: FilePath(model.path)),
            map.identity.device == model.device, map.identity.inode == model.inode
        {
            cached = cached ?? map.cachedBytes.map(UInt64.init)
            key = Processes.key(of: map) ?? key
        }
        self.cached = cached
        // The daemon has it mapped, seen or not.
        let seen = processes.count(key)
        count = seen.processes > 0 ? seen : Count(processes: 1, isComplete: false)
    }
}

/// Which processes have which files mapped (/proc/PID/maps).
struct Processes {
    /// A file as maps tell it, which need not be as stat does: btrfs and overlayfs have device numbers of their own.
    struct Key: Hashable {
        let device, inode: UInt64
    }

    private var counts: [Key: Int] = [:]
    private var isComplete = true

    /// Looks at all processes but this one.
    init() {
        let own = getpid()
        for name in (try? Directory.names(in: "/proc")) ?? [] {
            guard let pid = Int32(name), pid != own else { continue }
            switch Self.maps(of: "/proc/\(pid)/maps") {
            case .some(let keys): for key in keys { counts[key, default: 0] += 1 }
            case .none: isComplete = false
            }
        }
        // Others' processes may be hidden (hidepid), and are not told from none.
        if geteuid() != 0 { isComplete = false }
    }

    func count(_ key: Key) -> Residency.Count {
        Residency.Count(processes: counts[key] ?? 0, isComplete: isComplete)
    }

    /// The files a process has mapped; `nil` if that may not be seen.
    private static func maps(of path: String) -> Set<Key>? {
        guard let file = fopen(path, "re") else {
            return errno == ENOENT || errno == ESRCH ? [] : nil
        }
        defer { fclose(file) }
        var (keys, line): (Set<Key>, [CChar]) = ([], .init(repeating: 0, count: 4400))
        while fgets(&line, Int32(line.count), file) != nil {
            if let key = area(Self.text(line))?.key { keys.insert(key) }
        }
        // Refused only when it is read, by some kernels.
        return ferror(file) != 0 && errno != ESRCH ? nil : keys
    }

    private static func text(_ line: [CChar]) -> String {
        String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// A line of maps: where the area begins, and the file that is mapped there.
    static func area(_ line: String) -> (start: UInt, key: Key)? {
        let fields = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
        guard fields.count >= 5, let start = UInt(fields[0].prefix { $0 != "-" }, radix: 16),
            let inode = UInt64(fields[4]), inode != 0
        else { return nil }
        let numbers = fields[3].split(separator: ":").compactMap { UInt64($0, radix: 16) }
        guard numbers.count == 2 else { return nil }
        // makedev(3)
        let (major, minor) = (numbers[0], numbers[1])
        let device =
            (major & 0xFFFF_F000) << 32 | (major & 0xFFF) << 8 | (minor & 0xFFFF_FF00) << 12
            | minor & 0xFF
        return (start, Key(device: device, inode: inode))
    }

    /// The key of a file this process has mapped.
    static func key(of map: MappedFile) -> Key? {
        guard let file = fopen("/proc/self/maps", "re") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 4400)
        while fgets(&line, Int32(line.count), file) != nil {
            if let area = area(text(line)), area.start == UInt(bitPattern: map.start) {
                return area.key
            }
        }
        return nil
    }
}
