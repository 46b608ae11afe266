// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc

/// mmfreectl on a terminal of its own: what it writes there, and keys for it.
final class PseudoTerminal {
    struct TimedOut: Error, CustomStringConvertible {
        let description: String
    }

    private let master: Int32
    /// Tells the program's process, and 128 and the signal that ends it, without a word of the shell's.
    private static let shell = #"""
        trap : INT HUP
        exec 3>&2 2>/dev/null
        /bin/sh -c 'exec 2>&3 3>&-; echo "pid $$"; exec "$0" "$@"' "$0" "$@"
        exit $?
        """#
    private let process = Process()
    /// Everything that has been written.
    private(set) var output = ""
    /// What has been written since the last `wait`.
    private var fresh = ""
    private(set) var pid: Int32 = 0
    /// The settings before the program began.
    let before: [UInt32]

    /// - Parameter environment: these variables and no others.
    init(
        _ arguments: [String], environment: [String: String], rows: UInt16 = 24,
        columns: UInt16 = 80
    ) throws {
        master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
        var (unlocked, number): (Int32, Int32) = (0, 0)
        // TIOCSPTLCK, TIOCGPTN
        guard master >= 0, ioctl(master, 0x4004_5431, &unlocked) == 0,
            ioctl(master, 0x8004_5430, &number) == 0
        else { throw TimedOut(description: "no pseudo-terminal") }
        let slave = FileHandle(forUpdatingAtPath: "/dev/pts/\(number)")
        before = Self.settings(master)
        process.executableURL = URL(fileURLWithPath: "/usr/bin/setsid")
        process.arguments =
            ["--ctty", "--wait", "/bin/sh", "-c", Self.shell]
            + [Program.path("mmfreectl")] + arguments
        process.environment = ["PATH": "/usr/bin:/bin", "TERM": "xterm"].merging(environment) { $1 }
        (process.standardInput, process.standardOutput, process.standardError) = (
            slave, slave, slave
        )
        resize(rows, columns)
        try process.run()
        try slave?.close()
        pid = try Int32(wait(for: "\n").split { $0.isWhitespace }.last ?? "") ?? 0
    }

    deinit {
        if process.isRunning { kill(pid, SIGKILL) }
        close(master)
    }

    /// Local and input flags.
    private static func settings(_ descriptor: Int32) -> [UInt32] {
        var settings = termios()
        tcgetattr(descriptor, &settings)
        return [settings.c_lflag, settings.c_iflag, settings.c_oflag]
    }

    var settings: [UInt32] { Self.settings(master) }

    var isStopped: Bool {
        let status = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
        return status?.contains("State:\tT") ?? false
    }

    func send(_ keys: String) {
        let bytes = Array(keys.utf8)
        _ = write(master, bytes, bytes.count)
    }

    func resize(_ rows: UInt16, _ columns: UInt16) {
        var size = winsize(ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
        _ = ioctl(master, UInt(TIOCSWINSZ), &size)
    }

    func signal(_ number: Int32) { kill(pid, number) }

    /// Reads until `text` has come; returns everything up to its end that had not been waited for.
    @discardableResult
    func wait(for text: String, within seconds: Double = 60) throws -> String {
        let end = Date() + seconds
        while true {
            if let range = fresh.range(of: text) {
                defer { fresh = String(fresh[range.upperBound...]) }
                return String(fresh[..<range.upperBound])
            }
            guard Date() < end, try read() else {
                throw TimedOut(
                    description: "no \(text.debugDescription) in \(output.debugDescription)")
            }
        }
    }

    /// Reads to the program's end.
    ///
    /// - Returns: its exit status, or 128 and the signal that ended it.
    func end(within seconds: Double = 60) throws -> Int32 {
        let limit = Date() + seconds
        while process.isRunning {
            guard Date() < limit else {
                throw TimedOut(description: "it goes on: \(output.debugDescription)")
            }
            _ = try read()
        }
        while try read(), !fresh.isEmpty, poll(0) {}
        return process.terminationStatus
    }

    private func poll(_ milliseconds: Int32) -> Bool {
        var one = pollfd(fd: master, events: Int16(POLLIN), revents: 0)
        return Glibc.poll(&one, 1, milliseconds) > 0 && one.revents & Int16(POLLIN) != 0
    }

    /// - Returns: false when nobody has the other end any more.
    private func read() throws -> Bool {
        guard poll(100) else { return process.isRunning }
        var bytes = [UInt8](repeating: 0, count: 65536)
        let count = Glibc.read(master, &bytes, bytes.count)
        guard count > 0 else { return process.isRunning }
        let text = String(decoding: bytes[..<count], as: UTF8.self)
        output += text
        fresh += text
        return true
    }
}
