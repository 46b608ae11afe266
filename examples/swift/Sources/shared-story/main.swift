// SPDX-License-Identifier: Apache-2.0
// Streams the same story, computed in this process on the memory the daemon has mapped.

import MMFree

let model = try await SharedModel.shared()
for try await part in model.generate("Once upon a time", options: .greedy) {
    print(part.text, terminator: "")
}
print()
