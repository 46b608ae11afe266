// SPDX-License-Identifier: Apache-2.0

import Glibc
import MMFree

/// Lines of standard input: edited on a terminal, as they are from a pipe.
final class ChatLines {
    enum Line: Equatable {
        case line(String)
        case interrupted, ended
    }

    let isInteractive = Terminal.inputIsTerminal && Terminal.outputIsTerminal
    private var editor = LineEditor()
    /// Keys that came after the end of a line.
    private var keys: [UInt8] = []
    private var piped: Lines?

    func next(prompt: String) throws -> Line {
        guard isInteractive else {
            if piped == nil {
                let input = try Input("-")
                piped = Lines("standard input", limit: Client.textLimit) {
                    try input.read(into: $0)
                }
            }
            return try piped?.next().map { .line($0) } ?? .ended
        }
        RawTerminal.enter(.lines)
        InterruptWatch.install()
        defer {
            RawTerminal.leave()
            Terminal.print("")
        }
        while true {
            let (taken, result) = editor.take(keys)
            keys.removeFirst(taken)
            RawTerminal.write(editor.drawing(prompt: prompt, columns: RawTerminal.size.columns))
            switch result {
            case .line(let line): return .line(line)
            case .interrupted: return .interrupted
            case .ended: return .ended
            case .suspended: RawTerminal.suspend()
            case nil: break
            }
            switch RawTerminal.event(within: -1) {
            case .bytes(let bytes): keys += bytes
            case .closed: return .ended
            case .resized, nil: break
            }
        }
    }
}

/// Ctrl-C beside the line editor: the first one ends the answer that is being written, another one the program; without an answer
/// it does nothing.
final class InterruptWatch {
    nonisolated(unsafe) private static var flag: sig_atomic_t = 0
    nonisolated(unsafe) private static var isAnswering: sig_atomic_t = 0
    private var task: Task<Void, Never>?

    /// For the rest of the program.
    static func install() {
        signal(SIGINT) { number in
            guard InterruptWatch.isAnswering != 0 else { return }
            if InterruptWatch.flag != 0 { _exit(128 + number) }
            InterruptWatch.flag = 1
        }
    }

    init() { (Self.flag, Self.isAnswering) = (0, 1) }

    /// - Parameter stop: ends the answer.
    func begin(_ stop: @escaping @Sendable () async -> Void) {
        task = Task { await InterruptWatch.wait(then: stop) }
    }

    private static func wait(then stop: @Sendable () async -> Void) async {
        while !Task.isCancelled, !isWanted { try? await Task.sleep(for: .milliseconds(20)) }
        if isWanted { await stop() }
    }

    private static var isWanted: Bool { flag != 0 }

    func end() {
        task?.cancel()
        Self.isAnswering = 0
    }
}
