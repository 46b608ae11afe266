// SPDX-License-Identifier: Apache-2.0

/// Formats of strings as patterns. Each allows a part of what the format's RFC does, nothing beyond.
enum SchemaFormats {
    private static let patterns: [String: String] = {
        let months =
            "(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
        // 0001 to 9999; the 29th of February in leap years alone.
        let year = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
        let fours = "(?:0[48]|[2468][048]|[13579][26])"
        let date = "(?:\(year)-\(months)|(?:[0-9]{2}\(fours)|\(fours)00)-02-29)"
        let hour = "(?:[01][0-9]|2[0-3])"
        let time = "\(hour):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,6})?(?:Z|[+-]\(hour):[0-5][0-9])"
        let byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
        let label = "[A-Za-z0-9]{1,20}(?:-[A-Za-z0-9]{1,20})?"
        let hex = "[0-9A-Fa-f]"
        return [
            "date": date, "time": time, "date-time": "\(date)T\(time)",
            "uuid": "\(hex){8}-\(hex){4}-\(hex){4}-\(hex){4}-\(hex){12}",
            "ipv4": "\(byte)(?:\\.\(byte)){3}",
            "email":
                "[A-Za-z0-9_+-]{1,16}(?:\\.[A-Za-z0-9_+-]{1,16}){0,2}@\(label)(?:\\.\(label)){0,2}",
            "hostname": "\(label)(?:\\.\(label)){0,2}",
        ]
    }()

    static let names = patterns.keys.sorted().joined(separator: ", ")

    /// What the whole string matches; `nil` for a format that is not known.
    static func pattern(_ name: String) -> RegexNode? {
        guard let text = patterns[name] else { return nil }
        do { return try RegexParser.parse(Array(text.utf8)).anchored(searches: false) } catch {
            preconditionFailure("the pattern of \(name): \(error)")
        }
    }
}
