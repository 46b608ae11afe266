// SPDX-License-Identifier: Apache-2.0

import Foundation

/// Shows how far long work has come: a bar on a terminal, a plain line now and then otherwise.
final class ProgressLine {
    private let isTerminal: Bool
    private let began = Date()
    private var shown = Date.distantPast
    private var isOpen = false

    init(isTerminal: Bool = Terminal.errorIsTerminal) { self.isTerminal = isTerminal }

    func show(_ done: Int, of total: Int, _ what: String) {
        let now = Date()
        guard now.timeIntervalSince(shown) >= (isTerminal ? 0.1 : 5) else { return }
        // The first plain line comes when the work turns out to be long.
        if !isTerminal, shown == .distantPast {
            shown = now
            return
        }
        shown = now
        let line = Self.line(
            done, of: total, what, elapsed: now.timeIntervalSince(began), bar: isTerminal)
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

    static func line(
        _ done: Int, of total: Int, _ what: String, elapsed: TimeInterval, bar: Bool
    ) -> String {
        let fraction = total > 0 ? min(1, Double(done) / Double(total)) : 0
        var line = String(format: "%3d %%", Int(fraction * 100))
        if bar {
            let filled = Int(fraction * 24)
            line +=
                " [" + String(repeating: "#", count: filled)
                + String(repeating: ".", count: 24 - filled) + "]"
        }
        if fraction > 0.02, elapsed > 1 {
            line += String(format: " %.0f s left", elapsed / fraction - elapsed)
        }
        return line + "  " + what
    }
}

/// Whether the user has asked to stop: by Ctrl-C, SIGTERM, or by closing the terminal.
enum Interruption {
    nonisolated(unsafe) private static var flag: sig_atomic_t = 0
    nonisolated(unsafe) private static var child: pid_t = 0

    /// From now on a first signal only sets the flag; a second one ends the program. Nor does it end because nobody reads
    /// what it writes: writing says so.
    static func watch() {
        signal(SIGPIPE, SIG_IGN)
        // Whoever started this may have left them blocked, as threads of libdispatch have them.
        var watched = sigset_t()
        sigemptyset(&watched)
        for number in [SIGINT, SIGTERM, SIGHUP] {
            sigaddset(&watched, number)
            let before = signal(number) { number in
                if Interruption.child > 0 { kill(Interruption.child, number) }
                if Interruption.flag != 0 { _exit(128 + number) }
                Interruption.flag = 1
            }
            // nohup
            if number == SIGHUP,
                unsafeBitCast(before, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
            {
                signal(number, SIG_IGN)
            }
        }
        pthread_sigmask(SIG_UNBLOCK, &watched, nil)
    }

    static var isWanted: Bool { flag != 0 }

    /// A process that signals go on to; 0 for none.
    static func pass(to process: pid_t) {
        child = process
        // One may have come before there was a process to pass it to.
        if isWanted, process > 0 { kill(process, SIGTERM) }
    }
}
