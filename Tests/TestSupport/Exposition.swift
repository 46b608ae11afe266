// SPDX-License-Identifier: Apache-2.0

/// Prometheus' text exposition format 0.0.4, read as strictly as it is written down: a line that breaks a rule is an error.
package struct Exposition {
    package struct Sample: Equatable {
        package let name: String
        package let labels: [String: String]
        package let value: Double
    }

    package struct Family {
        package var help: String?
        package var type: String?
        package var samples: [Sample] = []
    }

    package struct Mistake: Error, CustomStringConvertible {
        package let description: String
    }

    package private(set) var families: [String: Family] = [:]

    /// The value of the only sample with these labels among others; `nil` if there is none.
    package func value(_ name: String, _ labels: [String: String] = [:]) -> Double? {
        families.values.flatMap(\.samples).first { sample in
            sample.name == name && labels.allSatisfy { sample.labels[$0.key] == $0.value }
        }?.value
    }

    /// The sum of all samples with these labels among others.
    package func sum(_ name: String, _ labels: [String: String] = [:]) -> Double {
        families.values.flatMap(\.samples).filter { sample in
            sample.name == name && labels.allSatisfy { sample.labels[$0.key] == $0.value }
        }.reduce(0) { $0 + $1.value }
    }

    package init(_ text: String) throws {
        guard text.isEmpty || text.utf8.last == 0x0A else {
            throw Mistake(description: "the last line has no end")
        }
        var current: String?
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
            if line.hasPrefix("# HELP ") || line.hasPrefix("# TYPE ") {
                let words = line.dropFirst(7).split(separator: " ", maxSplits: 1).map(String.init)
                guard words.count == 2, Self.isName(words[0], colons: true) else {
                    throw Mistake(description: "\(line)")
                }
                if current != words[0], families[words[0]] != nil {
                    throw Mistake(description: "\(words[0]) stands in two places")
                }
                current = words[0]
                var family = families[words[0], default: Family()]
                guard family.samples.isEmpty else {
                    throw Mistake(description: "\(line) comes after samples")
                }
                let isHelp = line.hasPrefix("# HELP ")
                guard isHelp ? family.help == nil : family.type == nil else {
                    throw Mistake(description: "\(line) a second time")
                }
                if isHelp { family.help = words[1] } else { family.type = words[1] }
                families[words[0]] = family
            } else {
                let sample = try Self.sample(line)
                guard let name = current, var family = families[name], let type = family.type,
                    Self.suffixes(type).contains(where: { name + $0 == sample.name })
                else { throw Mistake(description: "no TYPE before \(line)") }
                guard !family.samples.contains(where: { Self.isSame($0, sample) }) else {
                    throw Mistake(description: "\(line) a second time")
                }
                family.samples.append(sample)
                families[name] = family
            }
        }
        for (name, family) in families where family.type == "histogram" {
            try Self.checkHistogram(name, family.samples)
        }
        for (name, family) in families where family.type == "counter" {
            guard name.hasSuffix("_total"), family.samples.allSatisfy({ $0.value >= 0 }) else {
                throw Mistake(description: "counter \(name)")
            }
        }
    }

    private static func suffixes(_ type: String) -> [String] {
        switch type {
        case "counter", "gauge": [""]
        case "histogram": ["_bucket", "_sum", "_count"]
        default: []
        }
    }

    private static func isSame(_ a: Sample, _ b: Sample) -> Bool {
        a.name == b.name && a.labels == b.labels
    }

    private static func isName(_ name: some StringProtocol, colons: Bool) -> Bool {
        guard let first = name.utf8.first, !(0x30...0x39).contains(first) else { return false }
        return name.utf8.allSatisfy {
            switch $0 {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x5F: true
            case 0x3A: colons
            default: false
            }
        }
    }

    private static func sample(_ line: Substring) throws -> Sample {
        let name = line.prefix { $0 != "{" && $0 != " " }
        guard isName(name, colons: true) else { throw Mistake(description: "\(line)") }
        var rest = line[name.endIndex...]
        var labels: [String: String] = [:]
        if rest.first == "{" {
            rest = rest.dropFirst()
            while rest.first != "}" {
                let label = rest.prefix { $0 != "=" }
                rest = rest[label.endIndex...]
                guard isName(label, colons: false), rest.hasPrefix("=\""),
                    labels[String(label)] == nil
                else { throw Mistake(description: "\(line)") }
                rest = rest.dropFirst(2)
                labels[String(label)] = try quoted(&rest, line)
                if rest.first == "," { rest = rest.dropFirst() }
            }
            rest = rest.dropFirst()
        }
        guard rest.first == " ", let value = Double(rest.dropFirst()) else {
            throw Mistake(description: "\(line)")
        }
        return Sample(name: String(name), labels: labels, value: value)
    }

    private static func quoted(_ rest: inout Substring, _ line: Substring) throws -> String {
        var text = ""
        while let character = rest.popFirst() {
            switch character {
            case "\"": return text
            case "\\":
                switch rest.popFirst() {
                case "\\": text += "\\"
                case "\"": text += "\""
                case "n": text += "\n"
                default: throw Mistake(description: "\(line)")
                }
            default: text.append(character)
            }
        }
        throw Mistake(description: "\(line)")
    }

    /// Buckets rise, in bounds and in counts, end with +Inf, and agree with the count.
    private static func checkHistogram(_ name: String, _ samples: [Sample]) throws {
        let sets = Dictionary(grouping: samples) { $0.labels.filter { $0.key != "le" } }
        for (labels, samples) in sets {
            let buckets = samples.filter { $0.name.hasSuffix("_bucket") }
            let bounds = buckets.map { Double($0.labels["le"] ?? "") ?? .nan }
            let counts = buckets.map(\.value)
            guard bounds == bounds.sorted(), counts == counts.sorted(), bounds.last == .infinity,
                samples.first(where: { $0.name.hasSuffix("_count") })?.value == counts.last,
                samples.contains(where: { $0.name.hasSuffix("_sum") })
            else { throw Mistake(description: "histogram \(name) \(labels)") }
        }
    }
}
