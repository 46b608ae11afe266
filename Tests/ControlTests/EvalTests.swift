// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Engine
import Foundation
import ModelStore
import Testing

@testable import mmfreectl

@Suite("mmfreectl eval")
struct EvalTests {
    private func question(_ task: EvalTask, _ row: String) throws -> EvalQuestion {
        try task.question(try JSON(parsing: Array(row.utf8)))
    }

    private func texts(_ task: EvalTask, _ row: String) throws -> [String] {
        try question(task, row).pairs.map { "\($0.context)|\($0.continuation)" }
    }

    // MARK: What is asked

    static let arc =
        #"{"id": "x", "question": "What is hot?", "choices": {"text": ["ice", "fire", "snów"], "label": ["A", "B", "C"]}, "answerKey": "B"}"#
    static let piqa =
        #"{"goal": "Boil an egg", "sol1": "use water", "sol2": "use sand", "label": 0}"#
    static let winogrande =
        #"{"sentence": "The cat saw _ in the garden. ", "option1": "a dog", "option2": "Mars", "answer": "1"}"#
    static let hellaswag =
        #"{"ind": 1, "activity_label": "Baking", "ctx_a": "A man  [header] Mixes [title] dough.", "ctx_b": "he ßEES", "ctx": "", "endings": [" puts it  in [substeps] the oven.", "[step] eats [a\nb] it"], "label": "1"}"#
    static let openbook =
        #"{"id": "7", "question_stem": "The sun is", "choices": {"text": ["a star", "a lamp"], "label": ["A", "B"]}, "answerKey": " A"}"#

    @Test("prompts and answers are the harness's")
    func prompts() throws {
        #expect(
            try texts(.arcEasy, Self.arc) == [
                "Question: What is hot?\nAnswer:| ice", "Question: What is hot?\nAnswer:| fire",
                "Question: What is hot?\nAnswer:| snów",
            ])
        #expect(try question(.arcChallenge, Self.arc).right == 1)
        #expect(try question(.arcEasy, Self.arc).lengths == [3, 4, 4])
        #expect(
            try texts(.piqa, Self.piqa) == [
                "Question: Boil an egg\nAnswer:| use water",
                "Question: Boil an egg\nAnswer:| use sand",
            ])
        #expect(
            try texts(.openbookqa, Self.openbook) == ["The sun is| a star", "The sun is| a lamp"])
        // Of winogrande the end of the sentence is scored, behind each option.
        #expect(
            try texts(.winogrande, Self.winogrande) == [
                "The cat saw a dog| in the garden.", "The cat saw Mars| in the garden.",
            ])
        // Python: preprocess(activity_label + ": " + ctx_a + " " + ctx_b.capitalize()).
        #expect(
            try texts(.hellaswag, Self.hellaswag) == [
                "Baking: A man  Mixes. dough. He ßees| puts it in the oven.",
                "Baking: A man  Mixes. dough. He ßees|  eats [a\nb] it",
            ])
    }

    static let wrong: [(EvalTask, String, String)] = [
        (.piqa, #"{"goal": "x", "sol1": "a", "label": 0}"#, "'sol2' is missing, not a text"),
        (.piqa, #"{"goal": "x", "sol1": "a", "sol2": "b", "label": 2}"#, "answer 2 is right, of 2"),
        (.piqa, #"{"goal": "x", "sol1": "a", "sol2": "", "label": 0}"#, "an empty answer"),
        (
            .hellaswag, hellaswag.replacingOccurrences(of: #""1"}"#, with: #"""}"#),
            "'label' is \"\", not a number"
        ),
        (.winogrande, winogrande.replacingOccurrences(of: "_", with: "-"), "'sentence' has no '_'"),
        (
            .arcEasy, arc.replacingOccurrences(of: #""B"}"#, with: #""Z"}"#),
            "'answerKey' is \"Z\", which is no label of a choice"
        ),
    ]

    @Test("a row that is no question is refused", arguments: wrong)
    func rows(_ task: EvalTask, _ row: String, _ what: String) {
        let error = #expect(throws: EvalTask.RowError.self) { _ = try question(task, row) }
        #expect(error?.what == what)
    }

    // MARK: What is counted

    @Test("the first of the largest is the answer, by the whole and by the character")
    func scores() throws {
        var score = EvalScore()
        let question = try question(.arcEasy, Self.arc)
        score.add([-3, -3.5, -9], question)
        score.add([-9, -3, -9], question)
        score.add([-2, -2, -2], question)
        #expect(score.count == 3 && score.right == 1 && score.rightByLength == 3)
        #expect(score.accuracy == 1.0 / 3)
        // statistics.stdev([0, 1, 0]) / sqrt(3)
        #expect(abs((score.error(score.right) ?? 0) - 0.3333333333333333) < 1e-15)
        #expect(EvalScore().error(0) == nil)
    }

    @Test("what all contexts begin with is shared, their last tokens are not")
    func shared() {
        #expect(LocalEvalModel.sharedPrefix([[1, 2, 3], [1, 2, 3]]) == 2)
        #expect(LocalEvalModel.sharedPrefix([[1, 2, 3], [1, 5, 3]]) == 1)
        #expect(LocalEvalModel.sharedPrefix([[1], [1, 2]]) == 0)
    }

    // MARK: What is computed

    @Test(
        "log-probabilities are those of each text computed by itself, to the bit",
        arguments: [1, 2])
    func computed(_ threads: Int) throws {
        let options = try LocalOptions.parse(["--threads", "\(threads)"])
        let model = try LocalEvalModel(Program.demo, options, addsBOS: false)
        let local = try LocalModel(Program.demo, options)
        for (task, row) in [
            (EvalTask.arcEasy, Self.arc), (.piqa, Self.piqa), (.winogrande, Self.winogrande),
            (.hellaswag, Self.hellaswag), (.openbookqa, Self.openbook),
        ] {
            let question = try question(task, row)
            let expected = try question.pairs.map { pair in
                let pair = try model.encode(pair)
                let (context, tokens) = (pair.context, pair.all)
                var sum = 0.0
                var scorer = TokenScorer(kernels: local.kernels)
                local.states.reset(0)
                try local.feed(tokens.dropLast(), wants: .logits, chunk: 3) { place, logits in
                    guard place >= context.count - 1 else { return }
                    sum += Double(scorer.score(tokens[place + 1], logits, top: 0).logprob)
                }
                return sum
            }
            #expect(try model.logProbabilities(question) == expected, "\(task)")
        }
    }

    @Test("they are what the logits of `mmfreectl logits` say")
    func logits() throws {
        let model = try LocalEvalModel(Program.demo, try LocalOptions.parse([]), addsBOS: false)
        let question = try question(.piqa, Self.piqa)
        let computed = try model.logProbabilities(question)
        try Program.withDirectory { directory in
            for (pair, value) in zip(question.pairs, computed) {
                let pair = try model.encode(pair)
                let (context, tokens) = (pair.context, pair.all)
                let path = directory + "/\(tokens.count).npy"
                let ids = tokens.map(String.init).joined(separator: ",")
                let made = try Program.run(
                    ["logits", Program.demo, "--tokens", ids, "-o", path, "--force"])
                try #require(made.status == 0, "\(made.errors)")
                let bytes = try Data(contentsOf: URL(fileURLWithPath: path))
                let numbers = bytes.dropFirst(bytes.count % 4 == 0 ? 128 : 0).withUnsafeBytes {
                    Array($0.bindMemory(to: Float.self))
                }
                let width = numbers.count / tokens.count
                var sum = 0.0
                for place in (context.count - 1)..<(tokens.count - 1) {
                    let row = numbers[(place * width)..<((place + 1) * width)].map(Double.init)
                    let most = row.max() ?? 0
                    let total = row.reduce(0) { $0 + Foundation.exp($1 - most) }
                    sum += row[Int(tokens[place + 1])] - most - Foundation.log(total)
                }
                #expect(abs(sum - value) < 1e-5 * abs(value), "\(sum) \(value)")
            }
        }
    }

    // MARK: The program

    private func withData(_ body: (String, [String]) throws -> Void) throws {
        try Program.withDirectory { directory in
            let (piqa, wino) = (directory + "/piqa.jsonl", directory + "/wino.jsonl")
            try
                (Self.piqa + "\n\n" + Self.piqa.replacingOccurrences(of: "egg", with: "stone")
                + "\n")
                .write(toFile: piqa, atomically: true, encoding: .utf8)
            try (Self.winogrande + "\n").write(toFile: wino, atomically: true, encoding: .utf8)
            try body(directory, ["eval", Program.demo, "piqa=\(piqa)", "winogrande=\(wino)"])
        }
    }

    @Test("a table, or one JSON object; the same on any number of threads")
    func output() throws {
        try withData { _, command in
            let table = try Program.run(command)
            #expect(table.status == 0, "\(table.errors)")
            #expect(
                table.lines.map { $0.split(separator: " ").first } == [
                    "TASK", "piqa", "winogrande",
                ])
            func tasks(_ more: [String]) throws -> NSDictionary? {
                let result = try Program.run(command + ["--json"] + more)
                let object = try JSONSerialization.jsonObject(with: Data(result.output.utf8))
                return (object as? NSDictionary)?["tasks"] as? NSDictionary
            }
            let first = try tasks(["--threads", "1"])
            #expect((first?["piqa"] as? NSDictionary)?["questions"] as? Int == 2)
            #expect((first?["winogrande"] as? NSDictionary)?["acc_norm"] == nil)
            #expect(try tasks(["--threads", "2"]) == first)
        }
    }

    @Test("a daemon's results are those of the file, to the bit, and go on with them")
    func served() throws {
        try withData { directory, command in
            try Program.withDaemon { environment in
                func run(_ arguments: [String]) throws -> Program.Result {
                    try Program.run(arguments, environment: environment)
                }
                let served = ["eval", "--server", "demo"] + command.dropFirst(2)
                let (own, theirs) = (directory + "/own.json", directory + "/theirs.json")
                let local = try run(command + ["--resume", own])
                let remote = try run(served + ["--resume", theirs])
                #expect(remote.status == 0, "\(remote.errors)")
                #expect(remote.output == local.output)
                #expect(
                    try Data(contentsOf: URL(fileURLWithPath: own))
                        == Data(contentsOf: URL(fileURLWithPath: theirs)))
                #expect(try run(served + ["--resume", own]).output == local.output)
                // The second answer of a question begins where both leave each other.
                let status = try run(["status", "--json"]).output
                #expect(status.contains(#""hits":"#) && !status.contains(#""hits":0"#), "\(status)")

                #expect(try run(["eval", "--server", "none"] + command.dropFirst(2)).status == 66)
                #expect(try run(served + ["--threads", "2"]).status == 64)
                #expect(try run(command + ["--socket", "/none"]).status == 64)
            }
        }
    }

    @Test("results are kept and gone on from, of the same model, data and settings only")
    func resume() throws {
        try withData { directory, command in
            let file = directory + "/r.json"
            let whole = try Program.run(command)
            let part = try Program.run(command + ["--limit", "1", "--resume", file])
            #expect(part.status == 0, "\(part.errors)")
            let rest = try Program.run(command + ["--resume", file])
            #expect(rest.output == whole.output)
            let bytes = try Data(contentsOf: URL(fileURLWithPath: file))
            // Nothing is computed again: the file says what the answers are.
            let text = String(decoding: bytes, as: UTF8.self)
            let range = try #require(
                text.range(of: #""piqa":\{.*?"results":\[\["#, options: .regularExpression))
            let other = text.replacingCharacters(
                in: range.upperBound..<range.upperBound, with: "-999,")
            try other.write(toFile: file, atomically: true, encoding: .utf8)
            let wrong = try Program.run(command + ["--resume", file])
            #expect(wrong.status == 65)
            #expect(wrong.errors.contains("result 0 of piqa has 3 numbers, the question 2 answers"))

            try text.write(toFile: file, atomically: true, encoding: .utf8)
            let bos = try Program.run(command + ["--resume", file, "--bos"])
            #expect(bos.status == 65 && bos.errors.contains("its results are without --bos"))
            try "x".write(toFile: file, atomically: true, encoding: .utf8)
            #expect(try Program.run(command + ["--resume", file]).status == 65)
        }
    }

    @Test("wrong data are named by file and line, wrong tasks by name")
    func refusals() throws {
        try Program.withDirectory { directory in
            let path = directory + "/d.jsonl"
            try (Self.piqa + "\n{\n").write(toFile: path, atomically: true, encoding: .utf8)
            let broken = try Program.run(["eval", Program.demo, "piqa=\(path)"])
            #expect(broken.status == 65)
            #expect(broken.errors.contains("d.jsonl, line 2: byte"))
            #expect(try Program.run(["eval", Program.demo, "boolq=\(path)"]).status == 64)
            #expect(try Program.run(["eval", Program.demo]).status == 64)
            #expect(try Program.run(["eval", Program.demo, "piqa=\(directory)/none"]).status == 66)
        }
    }
}
