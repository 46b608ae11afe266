// SPDX-License-Identifier: Apache-2.0

import Glibc

/// Whether the user has asked to stop: by Ctrl-C, SIGTERM, or by closing the terminal.
enum Interruption {
    nonisolated(unsafe) private static var flag: sig_atomic_t = 0
    nonisolated(unsafe) private static var child: pid_t = 0

    /// From now on a first signal only sets the flag; a second one ends the program.
    static func watch() {
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

    /// - Throws: `Failure` when the user has asked to stop.
    static func check() throws {
        if isWanted { throw Failure("interrupted", .interrupted) }
    }

    /// A process that signals go on to; 0 for none.
    static func pass(to process: pid_t) {
        child = process
        // One may have come before there was a process to pass it to.
        if isWanted, process > 0 { kill(process, SIGTERM) }
    }
}
