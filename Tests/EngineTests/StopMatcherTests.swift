// SPDX-License-Identifier: Apache-2.0

import Engine
import Testing

@Suite("Stop strings")
struct StopMatcherTests {
    private func run(_ stops: [String], _ pieces: [String]) -> (text: [String], stopped: Bool) {
        var matcher = StopMatcher(stops)
        var text: [String] = []
        for piece in pieces {
            let (emit, stopped) = matcher.append(piece)
            text.append(emit)
            if stopped { return (text, true) }
        }
        return (text + [matcher.finish()], false)
    }

    @Test("text before the stop string comes out, the stop string and what follows do not")
    func stops() {
        #expect(run(["END"], ["one END two"]) == (["one "], true))
        #expect(run(["END"], ["one E", "N", "D two"]) == (["one ", "", ""], true))
    }

    @Test("only what may begin a stop string is held back, and given out once it cannot")
    func heldBack() {
        #expect(run(["END"], ["one EN", "e"]) == (["one ", "ENe", ""], false))
        #expect(run(["END"], ["one EN"]) == (["one ", "EN"], false))
        #expect(run(["\n\n", "</a>"], ["x\n", "y<", "/a", ">"]) == (["x", "\ny", "", ""], true))
    }

    @Test("the first to be complete ends the text; of those that end together, the longest")
    func first() {
        #expect(run(["abcd", "bc"], ["abcd"]) == (["a"], true))
        #expect(run(["User:", "\nUser:"], ["hi\nUser: x"]) == (["hi"], true))
        #expect(run(["aab"], ["aaab"]) == (["a"], true))
    }

    @Test("text is compared by its bytes, not by what it looks like")
    func bytes() {
        #expect(run(["\u{E9}"], ["e\u{301}"]) == (["e\u{301}", ""], false))
        // The same first byte, another character.
        #expect(run(["é"], ["è"]) == (["è", ""], false))
        #expect(run(["🙂"], ["a🙂b"]) == (["a"], true))
        // A stop string may end inside what a reader takes for one character.
        #expect(run(["e"], ["e\u{301}"]) == ([""], true))
    }

    @Test("without stop strings everything passes; after a stop nothing does")
    func ends() {
        #expect(run([], ["a", "b"]) == (["a", "b", ""], false))
        var matcher = StopMatcher(["x"])
        #expect(matcher.append("axb") == ("a", true))
        #expect(matcher.isStopped)
        #expect(matcher.append("c") == ("", true))
        #expect(matcher.finish() == "")
    }

    @Test("an empty stop string is refused")
    func empty() {
        #expect(throws: SamplingError(field: "stop", value: "empty at 1", allowed: "text")) {
            try StopMatcher.check(["a", ""])
        }
        #expect(throws: Never.self) { try StopMatcher.check(["a", "\n"]) }
        #expect(run([""], ["a"]) == (["a", ""], false))
    }

    @Test("equals a search of the whole text, however it is cut", arguments: 0..<40)
    func search(_ seed: UInt64) {
        var random = Randomness(seed: seed)
        func below(_ limit: Int) -> Int { Int(random.next() % UInt64(limit)) }
        let alphabet = Array(["ab", "abc", "aé€", "é🙂\u{301}"][Int(seed) % 4].unicodeScalars)
        func word(_ length: Int) -> String {
            var word = ""
            for _ in 0..<length { word.unicodeScalars.append(alphabet[below(alphabet.count)]) }
            return word
        }
        for _ in 0..<60 {
            let stops = (0..<1 + below(4)).map { _ in word(1 + below(6)) }
            let pieces = (0..<below(12)).map { _ in word(below(5)) }
            let whole = pieces.joined()
            let found = Self.naive(stops, Array(whole.utf8))
            let (text, stopped) = run(stops, pieces)
            #expect(stopped == (found != nil), "\(stops) in \(pieces)")
            #expect(
                Array(text.joined().utf8) == Array(whole.utf8.prefix(found ?? whole.utf8.count)),
                "\(stops) in \(pieces)")
            guard !stopped else { continue }
            // At every cut, no more was held back than the longest beginning of a stop string.
            var (given, before) = ("", "")
            for (piece, emit) in zip(pieces, text) {
                before += piece
                given += emit
                let longest = stops.map { Self.overlap(Array(before.utf8), Array($0.utf8)) }.max()!
                #expect(before.utf8.count - given.utf8.count == longest)
            }
        }
    }

    /// Where the text ends: before the longest stop string that ends at the first byte any of them ends at.
    private static func naive(_ stops: [String], _ text: [UInt8]) -> Int? {
        for end in 0...text.count {
            let ending = stops.map { Array($0.utf8) }.filter {
                text[..<end].suffix($0.count).elementsEqual($0)
            }
            if let longest = ending.map(\.count).max() { return end - longest }
        }
        return nil
    }

    /// The longest beginning of `stop` that ends `text`.
    private static func overlap(_ text: [UInt8], _ stop: [UInt8]) -> Int {
        (0..<stop.count).last { text.suffix($0).elementsEqual(stop.prefix($0)) } ?? 0
    }
}
