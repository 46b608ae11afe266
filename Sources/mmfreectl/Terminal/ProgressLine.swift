// SPDX-License-Identifier: Apache-2.0

/// Shows how far long work has come: a bar on a terminal, a plain line now and then otherwise.
final class ProgressLine {
    private let isTerminal: Bool
    private let began = ContinuousClock.now
    private var shown: ContinuousClock.Instant?
    private var isOpen = false

    init(isTerminal: Bool = Terminal.errorIsTerminal) { self.isTerminal = isTerminal }

    func show(_ done: Int, of total: Int, _ what: String) {
        let now = ContinuousClock.now
        if let shown, now - shown < .seconds(isTerminal ? 0.1 : 5) { return }
        let isFirst = shown == nil
        shown = now
        // The first plain line comes when the work turns out to be long.
        if !isTerminal, isFirst { return }
        let line = Self.line(
            done, of: total, what, elapsed: (now - began) / .seconds(1), bar: isTerminal)
        if isTerminal {
            isOpen = true
            Terminal.overwrite(line)
        } else {
            Terminal.note(Terminal.harmless(line, keepingLines: false))
        }
    }

    /// Takes the bar off the terminal.
    func clear() {
        guard isOpen else { return }
        isOpen = false
        Terminal.overwrite("")
    }

    deinit { clear() }

    /// - Parameter elapsed: seconds.
    static func line(
        _ done: Int, of total: Int, _ what: String, elapsed: Double, bar: Bool
    ) -> String {
        let fraction = total > 0 ? min(1, Double(done) / Double(total)) : 0
        var line = String(printf: "%3d %%", Int32(fraction * 100))
        if bar {
            let filled = Int(fraction * 24)
            line +=
                " [" + String(repeating: "#", count: filled)
                + String(repeating: ".", count: 24 - filled) + "]"
        }
        if fraction > 0.02, elapsed > 1 {
            line += String(printf: " %.0f s left", elapsed / fraction - elapsed)
        }
        return line + "  " + what
    }
}
