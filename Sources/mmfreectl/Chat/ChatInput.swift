// SPDX-License-Identifier: Apache-2.0

/// A line that somebody has typed: a command, or a part of a turn.
enum ChatCommand: Equatable {
    case save(String)
    case restore(String)
    case fork(String)
    case undo, redo, help, quit
    /// `nil`: a new one is drawn for each answer.
    case seed(UInt64?)
    case temperature(Float)
    case tokens(Int)
    /// What is wrong with it.
    case wrong(String)

    static let summary = """
        /save FILE         write the conversation's state to a file; /restore FILE goes on from it
        /fork [NAME]       a second session that is where this one is
        /undo, /redo       take the last turn back, and again
        /seed [N]          draw answers from this seed; without a number from a new one each
        /temperature X     0 takes the likeliest token
        /tokens N          tokens of an answer at most
        /help, /quit       Ctrl-D quits too; Ctrl-C stops an answer
        A line that ends in \\ goes on in the next one; so does what stands between two lines \"\"\".
        // at the beginning of a line stands for /.
        """

    /// - Returns: `nil` for text.
    init?(_ line: String) {
        guard line.hasPrefix("/"), !line.hasPrefix("//") else { return nil }
        let words = line.dropFirst().split(separator: " ", maxSplits: 1).map(String.init)
        let name = words.first ?? ""
        let rest = (words.count > 1 ? words[1] : "").trimmed
        func without(_ command: ChatCommand) -> ChatCommand {
            rest.isEmpty ? command : .wrong("/\(name) takes nothing behind it")
        }
        func with(_ what: String, _ command: ChatCommand?) -> ChatCommand {
            command ?? .wrong("/\(name) needs \(what)")
        }
        switch name {
        case "save": self = with("a file", rest.isEmpty ? nil : .save(rest))
        case "restore": self = with("a file", rest.isEmpty ? nil : .restore(rest))
        case "fork": self = .fork(rest)
        case "undo": self = without(.undo)
        case "redo": self = without(.redo)
        case "help": self = without(.help)
        case "quit", "exit": self = without(.quit)
        case "seed":
            self = with(
                "a number from 0, or nothing",
                rest.isEmpty ? .seed(nil) : UInt64(rest).map { .seed($0) })
        case "temperature":
            self = with(
                "a number from 0 to 100",
                Float(rest).flatMap { (0...100).contains($0) ? .temperature($0) : nil })
        case "tokens":
            self = with(
                "a number above 0", Int(rest).flatMap { $0 > 0 ? .tokens($0) : nil })
        default: self = .wrong("there is no /\(name); /help shows what there is")
        }
    }
}

/// Lines on their way to be a turn: several where a line asks for more.
struct ChatInput {
    enum Result: Equatable {
        case command(ChatCommand)
        case turn(String)
        /// More lines are needed.
        case more
        case nothing
    }

    private var lines: [String] = []
    private var isBlock = false

    /// Whether a turn has been begun.
    var isOpen: Bool { isBlock || !lines.isEmpty }

    mutating func take(_ line: String) -> Result {
        if line.trimmed == "\"\"\"", isBlock || lines.isEmpty {
            isBlock.toggle()
            return isBlock ? .more : end()
        }
        if isBlock {
            lines.append(line)
            return .more
        }
        if lines.isEmpty, let command = ChatCommand(line) { return .command(command) }
        let text = lines.isEmpty && line.hasPrefix("//") ? String(line.dropFirst()) : line
        guard text.hasSuffix("\\") else {
            lines.append(text)
            return end()
        }
        lines.append(String(text.dropLast()))
        return .more
    }

    /// What has been begun is the turn.
    mutating func end() -> Result {
        defer { self = ChatInput() }
        let text = lines.joined(separator: "\n")
        return text.trimmed.isEmpty ? .nothing : .turn(text)
    }

    mutating func drop() { self = ChatInput() }
}

extension String {
    /// Without white space at its ends.
    fileprivate var trimmed: String {
        var rest = self[...]
        while rest.first?.isWhitespace == true { rest.removeFirst() }
        while rest.last?.isWhitespace == true { rest.removeLast() }
        return String(rest)
    }
}
