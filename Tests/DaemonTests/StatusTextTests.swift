// SPDX-License-Identifier: Apache-2.0

import Testing

@testable import mmfreed

@Suite("What systemctl status shows")
struct StatusTextTests {
    @Test("models, slots and the queue")
    func text() {
        func text(_ models: [String], _ active: Int, _ queued: Int) -> String {
            StatusText.text(models: models, slots: 8, active: active, queued: queued)
        }
        #expect(text([], 0, 0) == "Serving no models: idle, 8 slots")
        #expect(text(["a"], 0, 0) == "Serving a: idle, 8 slots")
        #expect(text(["a", "b", "c"], 3, 0) == "Serving a, b, c: 3 of 8 slots in use, 0 waiting")
        #expect(
            text(["a", "b", "c", "d"], 8, 2) == "Serving 4 models: 8 of 8 slots in use, 2 waiting")
    }
}
