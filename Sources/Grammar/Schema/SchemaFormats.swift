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
        let hex = "[0-9A-Fa-f]"
        // RFC 5321, Mailbox: a Dot-string and a Domain.
        let atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
        let domain = "[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
        // RFC 1123: at most 63 characters; "xn--" begins what RFC 5891 encodes, of which only some texts are.
        let (letter, inner) = ("[A-Za-z0-9]", "[A-Za-z0-9-]")
        let after = "\(letter)(?:\(inner){0,59}\(letter))?|-\(letter)(?:\(inner){0,58}\(letter))?"
        let label =
            "(?:[A-WYZa-wyz0-9](?:\(inner){0,61}\(letter))?|[Xx](?:[A-MO-Za-mo-z0-9]|[A-MO-Za-mo-z0-9-]\(inner){0,60}\(letter))?|[Xx][Nn](?:\(after))?)"
        return [
            "date": date, "time": time, "date-time": "\(date)T\(time)",
            "uuid": "\(hex){8}-\(hex){4}-\(hex){4}-\(hex){4}-\(hex){12}",
            "ipv4": "\(byte)(?:\\.\(byte)){3}",
            "ipv6": ipv6("\(hex){1,4}"),
            "email": "\(atom)(?:\\.\(atom))*@\(domain)(?:\\.\(domain))*",
            "hostname": "\(label)(?:\\.\(label)){0,2}",
            "uri": uri, "duration": duration,
        ]
    }()

    /// RFC 4291 without the form that ends with an IPv4 address; "::" stands for one group or more.
    private static func ipv6(_ group: String) -> String {
        func groups(_ count: Int) -> String {
            count == 0 ? "" : group + (count > 1 ? "(?::\(group)){\(count - 1)}" : "")
        }
        let short = (0...7).map { before in
            let after = 7 - before
            let rest = after == 0 ? "" : "(?:\(group)(?::\(group)){0,\(after - 1)})?"
            return "\(groups(before))::\(rest)"
        }
        return "(?:\(([groups(8)] + short).joined(separator: "|")))"
    }

    /// RFC 3986 without addresses in brackets.
    private static let uri: String = {
        func character(_ more: String) -> String {
            "(?:[A-Za-z0-9._~!$&'()*+,;=\(more)-]|%[0-9A-Fa-f]{2})"
        }
        let (name, user, part) = (character(""), character(":"), character(":@"))
        let authority = "(?:\(user)*@)?\(name)*(?::[0-9]*)?"
        let path = "\(part)+(?:/\(part)*)*"
        let rest = "\(character(":@/?"))*"
        return
            "[A-Za-z][A-Za-z0-9+.-]*:(?://\(authority)(?:/\(part)*)*|/(?:\(path))?|\(path))?(?:\\?\(rest))?(?:#\(rest))?"
    }()

    /// RFC 3339, appendix A.
    private static let duration: String = {
        let number = "[0-9]{1,9}"
        let minutes = "\(number)M(?:\(number)S)?"
        let time = "T(?:\(number)H(?:\(minutes))?|\(minutes)|\(number)S)"
        let months = "\(number)M(?:\(number)D)?"
        return
            "P(?:(?:\(number)Y(?:\(months))?|\(months)|\(number)D)(?:\(time))?|\(time)|\(number)W)"
    }()

    static let names = patterns.keys.sorted().joined(separator: ", ")

    /// Of a format whose texts have no bound, some that have one.
    private static func short(_ name: String, within length: Int) -> String? {
        func domain(_ count: Int) -> String {
            let label = "[A-Za-z0-9]{1,\(count)}"
            return "\(label)(?:-\(label))?(?:\\.\(label)(?:-\(label))?){0,2}"
        }
        switch name {
        case "email":
            let count = min(20, (length - 7) / 8)
            let atom = "[A-Za-z0-9_+-]{1,\(count)}"
            return count > 0 ? "\(atom)(?:\\.\(atom))?@\(domain(count))" : nil
        case "uri":
            let count = min(20, (length - 16) / 9)
            let part = "[A-Za-z0-9._~!$&'()*+,;=:@-]{0,\(count)}"
            return count > 0 ? "https?://\(domain(count))(?:/\(part)){0,3}" : nil
        default: return nil
        }
    }

    /// What the whole string matches; `nil` for a format that is not known.
    static func pattern(_ name: String) -> RegexNode? { patterns[name].map { parsed(name, $0) } }

    /// A part of it, of texts that have no more characters; `nil` where a format has a bound of its own, or there is no room.
    static func short(_ name: String, within length: Int) -> RegexNode? {
        short(name, within: length).map { parsed(name, $0) }
    }

    private static func parsed(_ name: String, _ text: String) -> RegexNode {
        do { return try RegexParser.parse(Array(text.utf8)).anchored(searches: false) } catch {
            preconditionFailure("the pattern of \(name): \(error)")
        }
    }
}
