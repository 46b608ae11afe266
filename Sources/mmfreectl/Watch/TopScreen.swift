// SPDX-License-Identifier: Apache-2.0

import MMFree

/// What `top` shows, as a value.
struct TopScreen {
    var activity: Activity?
    /// Why there is no fresh status.
    var problem: String?

    /// At most `rows` lines of at most `columns` characters.
    func lines(rows: Int, columns: Int) -> [String] {
        var lines: [String] = []
        if let activity {
            let status = activity.status
            func rate(_ value: Double?) -> String {
                value.map { String(printf: "%.0f", $0) } ?? "-"
            }
            lines.append(
                "mmfreed \(status.version), \(status.state) for \(Self.time(status.uptime / .seconds(1))): "
                    + "\(rate(activity.writing)) tokens/s written, \(rate(activity.reading)) read")
            lines += status.summary
        }
        lines.append(problem.map { "no answer: \($0)" } ?? "")
        if let activity, !activity.rows.isEmpty {
            let table = activity.table.text.split(separator: "\n").map(String.init)
            let room = max(0, rows - lines.count - 1)
            lines += table.prefix(room)
            if table.count > room, room > 1 {
                lines[lines.count - 1] = "and \(table.count - room + 1) more"
            }
        }
        let shown = lines.prefix(max(0, rows - 1)) + ["q quits"]
        return shown.suffix(rows).map {
            String(Terminal.harmless($0, keepingLines: false).prefix(columns))
        }
    }

    /// 59 s, 12 min, 3 h 5 min, 2 d 4 h
    static func time(_ seconds: Double) -> String {
        let seconds = Int(seconds)
        return switch seconds {
        case ..<60: "\(seconds) s"
        case ..<3600: "\(seconds / 60) min"
        case ..<86400: "\(seconds / 3600) h \(seconds / 60 % 60) min"
        default: "\(seconds / 86400) d \(seconds / 3600 % 24) h"
        }
    }
}
