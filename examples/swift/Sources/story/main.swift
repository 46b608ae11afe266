// SPDX-License-Identifier: Apache-2.0
// Streams a story from the daemon, then finds which of two texts is nearer to a third.

import MMFree

try await withClient { client in
    for try await part in client.generate("Once upon a time", options: .greedy) {
        print(part.text, terminator: "")
    }
    print()

    let texts = ["The king had a daughter.", "The ship sailed at dawn.", "A princess lived there."]
    let vectors = try await client.embed(texts.map(Prompt.text), normalized: true)
    func likeness(_ a: Int, _ b: Int) -> Float {
        zip(vectors[a].values, vectors[b].values).reduce(0) { $0 + $1.0 * $1.1 }
    }
    print(texts[likeness(0, 1) > likeness(0, 2) ? 1 : 2])
}
