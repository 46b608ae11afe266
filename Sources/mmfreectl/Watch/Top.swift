// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MMFree

struct Top: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Watch the open requests and the daemon's load; q quits.",
        discussion: "Requests are your own; root and the daemon's user see all.")

    @OptionGroup var connection: Connection
    @Option(
        name: [.short, .long], parsing: .unconditional, help: "Seconds between two looks.")
    var delay = 1.0

    func validate() throws {
        guard (0.1...3600).contains(delay) else {
            throw ValidationError("--delay is 0.1 to 3600 seconds")
        }
    }

    func run() async throws {
        guard Terminal.inputIsTerminal, Terminal.outputIsTerminal else {
            throw Failure(
                "top needs a terminal; `mmfreectl ps --json` and `mmfreectl metrics` are for programs",
                .usage)
        }
        let client = connection.client()
        var screen = TopScreen()
        screen.activity = try await look(client, nil)
        RawTerminal.enter(.screen)
        defer { RawTerminal.leave() }
        show(screen)
        var next = ContinuousClock.now + .seconds(delay)
        while true {
            let left = max(.zero, next - .now) / .milliseconds(1)
            switch RawTerminal.event(within: Int32(left.rounded(.up))) {
            // q, Ctrl-C, Ctrl-D
            case .bytes(let keys) where keys.contains { [0x71, 0x51, 3, 4].contains($0) }: return
            // Ctrl-Z
            case .bytes(let keys) where keys.contains(26): RawTerminal.suspend()
            case .closed: return
            case .bytes, .resized: break
            case .none:
                next = ContinuousClock.now + .seconds(delay)
                do {
                    screen.activity = try await look(client, screen.activity)
                    screen.problem = nil
                } catch { screen.problem = Failure(error)?.message ?? "\(error)" }
            }
            show(screen)
        }
    }

    private func look(_ client: Client, _ previous: Activity?) async throws -> Activity {
        Activity(try await client.status(), at: .now, since: previous) {
            (ProcessOwner.name(of: $0), ProcessOwner.unit(of: $1))
        }
    }

    private func show(_ screen: TopScreen) {
        let (rows, columns) = RawTerminal.size
        let lines = screen.lines(rows: rows, columns: columns)
        RawTerminal.write(
            "\u{1B}[H" + lines.map { $0 + "\u{1B}[K" }.joined(separator: "\n") + "\u{1B}[J")
    }
}
