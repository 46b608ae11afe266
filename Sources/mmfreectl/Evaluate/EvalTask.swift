// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import ChatTemplates
import ModelStore

/// The zero-shot tasks, by the names, prompts and scores that lm-evaluation-harness 0.4 gives them (its tasks/*.yaml). Rows are those of the
/// Hugging Face datasets that it names.
enum EvalTask: String, CaseIterable, ExpressibleByArgument {
    case arcEasy = "arc_easy"
    case arcChallenge = "arc_challenge"
    case hellaswag, openbookqa, piqa, winogrande

    /// Whether answers are also compared by their log-probability a character.
    var hasNorm: Bool { self != .winogrande }

    /// What is wrong with a row, to follow its place.
    struct RowError: Error {
        let what: String

        init(_ what: String) { self.what = what }
    }

    func question(_ row: JSON) throws(RowError) -> EvalQuestion {
        switch self {
        case .arcEasy, .arcChallenge:
            return try choices(row, "Question: \(try text(row, "question"))\nAnswer:")
        case .openbookqa: return try choices(row, try text(row, "question_stem"))
        case .piqa:
            return try EvalQuestion(
                context: "Question: \(try text(row, "goal"))\nAnswer:",
                answers: [try text(row, "sol1"), try text(row, "sol2")],
                right: try label(row))
        case .hellaswag:
            let context =
                "\(try text(row, "activity_label")): \(try text(row, "ctx_a")) "
                + PythonText.capitalised(try text(row, "ctx_b"))
            guard let endings = row["endings"]?.array, !endings.isEmpty else {
                throw RowError("'endings' must be a list of texts")
            }
            var answers: [String] = []
            for ending in endings {
                guard let text = ending.string else {
                    throw RowError("'endings' must be a list of texts")
                }
                answers.append(Self.cleaned(text))
            }
            return try EvalQuestion(
                context: Self.cleaned(context), answers: answers, right: try label(row))
        case .winogrande: return try blank(row)
        }
    }

    // MARK: Kinds of rows

    private func choices(_ row: JSON, _ context: String) throws(RowError) -> EvalQuestion {
        guard let texts = row["choices"]?["text"]?.array,
            let labels = row["choices"]?["label"]?.array, texts.count == labels.count
        else { throw RowError("'choices' must have as many in 'text' as in 'label'") }
        let key = PythonText.stripped(
            try text(row, "answerKey"), left: self == .openbookqa, right: false)
        guard let right = labels.firstIndex(where: { $0.string == key }) else {
            throw RowError("'answerKey' is \"\(key)\", which is no label of a choice")
        }
        var answers: [String] = []
        for text in texts {
            guard let text = text.string else { throw RowError("a choice that is no text") }
            answers.append(text)
        }
        return try EvalQuestion(context: context, answers: answers, right: right)
    }

    /// The option that is put in the blank is part of the context; what follows the blank is scored.
    private func blank(_ row: JSON) throws(RowError) -> EvalQuestion {
        let sentence = try text(row, "sentence")
        guard let blank = sentence.unicodeScalars.firstIndex(of: "_") else {
            throw RowError("'sentence' has no '_'")
        }
        let before = String(sentence.unicodeScalars[..<blank])
        let after = PythonText.stripped(
            String(sentence.unicodeScalars[sentence.unicodeScalars.index(after: blank)...]))
        let answer = try text(row, "answer")
        guard answer == "1" || answer == "2" else {
            throw RowError("'answer' is \"\(answer)\"; it must be 1 or 2")
        }
        return try EvalQuestion(
            contexts: [before + (try text(row, "option1")), before + (try text(row, "option2"))],
            continuation: after, right: answer == "1" ? 0 : 1)
    }

    private func text(_ row: JSON, _ name: String) throws(RowError) -> String {
        guard let text = row[name]?.string else {
            throw RowError("'\(name)' is \(row[name]?.kind ?? "missing"), not a text")
        }
        return text
    }

    /// An integer, or one in a text.
    private func label(_ row: JSON) throws(RowError) -> Int {
        guard let label = row["label"]?.integer ?? row["label"]?.string.flatMap({ Int($0) }) else {
            throw RowError("'label' is \(row["label"]?.brief ?? "missing"), not a number")
        }
        return label
    }

    /// The harness's `preprocess` of hellaswag.
    private static func cleaned(_ text: String) -> String {
        var text = PythonText.stripped(text)
        text = PythonText.replacing(text, " [title]", ". ")
        var out = String.UnicodeScalarView()
        var rest = text.unicodeScalars[...]
        while let scalar = rest.first {
            // What stands in brackets on one line.
            if scalar == "[", let end = rest.firstIndex(where: { $0 == "]" || $0 == "\n" }),
                rest[end] == "]"
            {
                rest = rest[rest.index(after: end)...]
            } else {
                out.append(scalar)
                rest.removeFirst()
            }
        }
        return PythonText.replacing(String(out), "  ", " ")
    }
}

/// A question: what the model reads, and what of it is scored.
struct EvalQuestion: Equatable {
    struct Pair: Equatable {
        let context, continuation: String
    }

    /// One for each answer.
    let pairs: [Pair]
    /// Characters (Unicode scalars) of each answer; acc_norm divides by them.
    let lengths: [Int]
    /// Which one is right.
    let right: Int

    init(context: String, answers: [String], right: Int) throws(EvalTask.RowError) {
        try self.init(
            answers.map { Pair(context: context, continuation: " " + $0) },
            answers.map(\.unicodeScalars.count), right)
    }

    init(contexts: [String], continuation: String, right: Int) throws(EvalTask.RowError) {
        try self.init(
            contexts.map { Pair(context: $0, continuation: " " + continuation) },
            contexts.map(\.unicodeScalars.count), right)
    }

    private init(
        _ pairs: [Pair], _ lengths: [Int], _ right: Int
    ) throws(EvalTask.RowError) {
        guard (2...64).contains(pairs.count) else {
            throw .init("\(pairs.count) answers; 2 to 64 are taken")
        }
        guard pairs.indices.contains(right) else {
            throw .init("answer \(right) is right, of \(pairs.count)")
        }
        guard !lengths.contains(0) else { throw .init("an empty answer") }
        guard !pairs.contains(where: { $0.context.isEmpty }) else {
            throw .init("an empty question")
        }
        self.pairs = pairs
        self.lengths = lengths
        self.right = right
    }
}

/// Texts as Python's `str` handles them.
enum PythonText {
    static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
        scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
    }

    static func stripped(_ text: String, left: Bool = true, right: Bool = true) -> String {
        var rest = text.unicodeScalars[...]
        if left { rest = rest.drop(while: isSpace) }
        if right { while let last = rest.last, isSpace(last) { rest.removeLast() } }
        return String(rest)
    }

    static func replacing(_ text: String, _ old: String, _ new: String) -> String {
        rendered("{{ text | replace(old, new) }}", ["text": text, "old": old, "new": new])
    }

    static func capitalised(_ text: String) -> String {
        rendered("{{ text | capitalize }}", ["text": text])
    }

    /// Python's own methods, as templates have them.
    private static func rendered(_ source: String, _ texts: [String: String]) -> String {
        do throws(TemplateError) {
            return try ChatTemplate(source).render(texts.mapValues { .string($0) })
        } catch { preconditionFailure("\(error)") }
    }
}
