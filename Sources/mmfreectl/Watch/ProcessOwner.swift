// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Whose a process is, as far as this machine tells: the user's name and the systemd unit it runs in.
enum ProcessOwner {
    /// The name of a user; its number if it has none.
    static func name(of uid: UInt32) -> String {
        var entry = passwd()
        var found: UnsafeMutablePointer<passwd>?
        var room = [CChar](repeating: 0, count: 4096)
        while true {
            switch getpwuid_r(uid, &entry, &room, room.count, &found) {
            case ERANGE where room.count < 1 << 20:
                room = .init(repeating: 0, count: room.count * 2)
            case 0 where found != nil: return String(cString: entry.pw_name)
            default: return "\(uid)"
            }
        }
    }

    /// The unit of a process; `nil` if it is in none, has ended, or is hidden from us.
    static func unit(of pid: Int32) -> String? {
        guard pid > 0, let file = fopen("/proc/\(pid)/cgroup", "re") else { return nil }
        defer { fclose(file) }
        var line = [CChar](repeating: 0, count: 4200)
        while fgets(&line, Int32(line.count), file) != nil {
            let text = String(
                decoding: line.prefix { $0 != 0 && $0 != 10 }.map { UInt8(bitPattern: $0) },
                as: UTF8.self)
            // A hierarchy that nobody manages has all processes in its root.
            if text.hasPrefix("0::") || text.contains(":name=systemd:"),
                let unit = unit(inGroup: text.drop { $0 != "/" })
            {
                return unit
            }
        }
        return nil
    }

    /// The unit of a control group: the first component that is no slice, and of a user's service manager the first one below
    /// it. Groups below a unit are the unit's own.
    static func unit(inGroup path: Substring) -> String? {
        // systemd puts "_" before names that would collide with the kernel's files.
        let names = path.split(separator: "/").map { $0.hasPrefix("_") ? $0.dropFirst() : $0 }
        guard let first = names.firstIndex(where: { !$0.hasSuffix(".slice") }),
            isUnit(names[first])
        else { return nil }
        guard names[first].hasPrefix("user@") else { return String(names[first]) }
        let own = names[(first + 1)...].first { !$0.hasSuffix(".slice") }
        return String(own.flatMap { isUnit($0) ? $0 : nil } ?? names[first])
    }

    private static func isUnit(_ name: Substring) -> Bool {
        [".service", ".scope", ".socket", ".mount", ".swap"].contains { name.hasSuffix($0) }
    }
}
