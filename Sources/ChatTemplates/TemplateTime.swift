// SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// A moment in local time, for `strftime_now`.
package struct TemplateTime: Equatable, Sendable {
    package var year: Int
    /// 1 to 12.
    package var month: Int
    package var day: Int
    package var hour = 0
    package var minute = 0
    package var second = 0

    package init(year: Int, month: Int, day: Int) {
        self.year = year
        self.month = month
        self.day = day
    }

    package static var now: TemplateTime {
        var seconds = time(nil)
        var parts = tm()
        localtime_r(&seconds, &parts)
        var now = TemplateTime(
            year: Int(parts.tm_year) + 1900, month: Int(parts.tm_mon) + 1, day: Int(parts.tm_mday))
        now.hour = Int(parts.tm_hour)
        now.minute = Int(parts.tm_min)
        now.second = Int(parts.tm_sec)
        return now
    }

    private static let months = [
        "January", "February", "March", "April", "May", "June", "July", "August", "September",
        "October", "November", "December",
    ]
    private static let weekdays = [
        "Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday",
    ]

    /// Days of the year before this one's.
    private var dayOfYear: Int {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        let lengths = [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
        return lengths.prefix(month - 1).reduce(0, +) + day - 1
    }

    /// 0 is Sunday. Sakamoto's method.
    private var weekday: Int {
        let shifts = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4]
        let year = month < 3 ? year - 1 : year
        return (year + year / 4 - year / 100 + year / 400 + shifts[month - 1] + day) % 7
    }

    /// As Python's `datetime.strftime` in the C locale.
    ///
    /// - Returns: nil where the format has a directive that is not known here.
    func formatted(_ format: String) -> String? {
        func padded(_ number: Int, _ width: Int = 2, with fill: Character = "0") -> String {
            let digits = String(number)
            return String(repeating: fill, count: max(0, width - digits.count)) + digits
        }
        var out = ""
        var rest = format.unicodeScalars[...]
        while let scalar = rest.popFirst() {
            guard scalar == "%" else {
                out.unicodeScalars.append(scalar)
                continue
            }
            let hour12 = (hour + 11) % 12 + 1
            switch rest.popFirst() {
            case "Y": out += padded(year, 4)
            case "y": out += padded(year % 100)
            case "m": out += padded(month)
            case "d": out += padded(day)
            case "e": out += padded(day, with: " ")
            case "H": out += padded(hour)
            case "I": out += padded(hour12)
            case "M": out += padded(minute)
            case "S": out += padded(second)
            case "p": out += hour < 12 ? "AM" : "PM"
            case "j": out += padded(dayOfYear + 1, 3)
            case "B": out += Self.months[month - 1]
            case "b", "h": out += Self.months[month - 1].prefix(3)
            case "A": out += Self.weekdays[weekday]
            case "a": out += Self.weekdays[weekday].prefix(3)
            case "w": out += String(weekday)
            case "F": out += "\(padded(year, 4))-\(padded(month))-\(padded(day))"
            case "T": out += "\(padded(hour)):\(padded(minute)):\(padded(second))"
            case "%": out += "%"
            default: return nil
            }
        }
        return out
    }
}
