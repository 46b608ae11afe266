// SPDX-License-Identifier: Apache-2.0

/// How a turn's text is put before the model: as it is, or by a file of sections, each begun by a line of its own:
///
///     --- first     before the first turn, once
///     --- turn      every turn, with {prompt} in it once
///     --- stop      a text that ends the answer; may stand more than once
///
/// A section's text is what stands between the lines, without the last line break.
struct TurnTemplate: Equatable {
    var first = ""
    var before = ""
    var after = ""
    var stops: [String] = []

    static let plain = TurnTemplate()
    private static let place = "{prompt}"

    init() {}

    init(_ text: String) throws {
        var sections: [(name: String, lines: [Substring])] = []
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        for (index, line) in lines.enumerated() {
            if line.hasPrefix("--- ") {
                let name = String(line.dropFirst(4).filter { $0 != " " && $0 != "\r" })
                guard ["first", "turn", "stop"].contains(name) else {
                    throw Failure(
                        "template, line \(index + 1): '\(name)' is no section; first, turn and stop are",
                        .data)
                }
                guard name == "stop" || !sections.contains(where: { $0.name == name }) else {
                    throw Failure("template, line \(index + 1): '\(name)' a second time", .data)
                }
                sections.append((name, []))
            } else if sections.isEmpty {
                guard line.allSatisfy(\.isWhitespace) else {
                    throw Failure(
                        "template, line \(index + 1): text before the first section, which a line `--- turn` begins",
                        .data)
                }
            } else {
                sections[sections.count - 1].lines.append(line)
            }
        }
        // The file's own last line break ends no line of the section.
        if text.hasSuffix("\n"), !sections.isEmpty {
            sections[sections.count - 1].lines.removeLast()
        }
        for (name, lines) in sections {
            let text = lines.joined(separator: "\n")
            switch name {
            case "first": first = text
            case "stop":
                guard !text.isEmpty else { throw Failure("template: an empty stop", .data) }
                stops.append(text)
            default:
                let parts = text.split(separator: Self.place, omittingEmptySubsequences: false)
                guard parts.count == 2 else {
                    throw Failure(
                        "template: {prompt} stands \(parts.count - 1) times in the turn; it must once",
                        .data)
                }
                (before, after) = (String(parts[0]), String(parts[1]))
            }
        }
        guard sections.contains(where: { $0.name == "turn" }) else {
            throw Failure("template: there is no section `--- turn`", .data)
        }
    }

    /// What the model is given for a turn.
    func text(_ prompt: String, isFirst: Bool) -> String {
        (isFirst ? first : "") + before + prompt + after
    }
}
