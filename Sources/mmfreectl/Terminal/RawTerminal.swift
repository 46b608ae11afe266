// SPDX-License-Identifier: Apache-2.0
//
// The terminal, key by key. Whatever ends the program gives it back as it was: a return, exit(3), a signal that kills, a crash of
// our own. A stop (Ctrl-Z, SIGTSTP) gives it back too, and takes it again when the program goes on.

import Glibc

enum RawTerminal {
    enum Mode {
        /// A screen of our own; what was there comes back.
        case screen
        /// Lines below what is there.
        case lines
    }

    enum Event: Equatable {
        case bytes([UInt8])
        case resized
        case closed
    }

    // Signal handlers read these: they change only while no handler is installed, or by one word.
    nonisolated(unsafe) private static var before = termios()
    nonisolated(unsafe) private static var raw = termios()
    nonisolated(unsafe) private static var isRaw: sig_atomic_t = 0
    nonisolated(unsafe) private static var hasScreen: sig_atomic_t = 0
    nonisolated(unsafe) private static var isPrepared = false
    /// Signals write a byte here, for poll(2) may wait on another thread than theirs.
    nonisolated(unsafe) private static var wakeRead: Int32 = -1
    nonisolated(unsafe) private static var wakeWrite: Int32 = -1

    /// Takes the terminal of standard input and output, which must be one.
    static func enter(_ mode: Mode) {
        guard isRaw == 0, tcgetattr(0, &before) == 0 else { return }
        raw = before
        raw.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG | IEXTEN)
        raw.c_iflag &= ~tcflag_t(ICRNL | INLCR | IXON | ISTRIP)
        prepare()
        hasScreen = mode == .screen ? 1 : 0
        take()
    }

    static func leave() { giveBack() }

    /// Stops the program as Ctrl-Z does.
    static func suspend() { kill(getpid(), SIGTSTP) }

    /// Rows and columns; 24 × 80 where the terminal does not tell.
    static var size: (rows: Int, columns: Int) {
        var size = winsize()
        guard ioctl(1, UInt(TIOCGWINSZ), &size) == 0, size.ws_row > 0, size.ws_col > 0 else {
            return (24, 80)
        }
        return (Int(size.ws_row), Int(size.ws_col))
    }

    /// The next keys, or what has happened to the terminal; `nil` when the time is over.
    ///
    /// - Parameter milliseconds: -1 for ever.
    static func event(within milliseconds: Int32) -> Event? {
        var watched = [
            pollfd(fd: 0, events: Int16(POLLIN), revents: 0),
            pollfd(fd: wakeRead, events: Int16(POLLIN), revents: 0),
        ]
        switch poll(&watched, 2, milliseconds) {
        case 0: return nil
        case ..<0: return errno == EINTR ? .resized : .closed
        default: break
        }
        if watched[1].revents != 0 {
            var byte: UInt8 = 0
            while read(wakeRead, &byte, 1) == 1 {}
            return .resized
        }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = read(0, &bytes, bytes.count)
        if count < 0, errno == EINTR || errno == EAGAIN { return .resized }
        return count > 0 ? .bytes(Array(bytes[..<count])) : .closed
    }

    /// Writes escape sequences and text that is harmless already.
    static func write(_ text: String) {
        var text = text
        text.withUTF8 { Terminal.write(UnsafeRawBufferPointer($0)) }
    }

    // MARK: Signal handlers call these: system calls only.

    private static func take() {
        tcsetattr(0, TCSADRAIN, &raw)
        isRaw = 1
        // The other screen without a cursor; or pasted text between marks.
        emit(hasScreen != 0 ? "\u{1B}[?1049h\u{1B}[?25l" : "\u{1B}[?2004h")
    }

    private static func giveBack() {
        guard isRaw != 0 else { return }
        isRaw = 0
        emit(hasScreen != 0 ? "\u{1B}[?25h\u{1B}[?1049l" : "\u{1B}[?2004l")
        tcsetattr(0, TCSADRAIN, &before)
    }

    private static func emit(_ sequence: StaticString) {
        _ = Glibc.write(1, sequence.utf8Start, sequence.utf8CodeUnitCount)
    }

    private static func prepare() {
        guard !isPrepared else { return }
        isPrepared = true
        var ends: [Int32] = [-1, -1]
        if pipe(&ends) == 0 {
            for end in ends {
                _ = fcntl(end, F_SETFD, FD_CLOEXEC)
                _ = fcntl(end, F_SETFL, O_NONBLOCK)
            }
            (wakeRead, wakeWrite) = (ends[0], ends[1])
        }
        atexit { RawTerminal.giveBack() }
        signal(SIGWINCH) { _ in
            var byte: UInt8 = 0
            _ = Glibc.write(RawTerminal.wakeWrite, &byte, 1)
        }
        signal(SIGTSTP) { _ in
            let wasRaw = RawTerminal.isRaw != 0
            RawTerminal.giveBack()
            kill(getpid(), SIGSTOP)
            if wasRaw { RawTerminal.take() }
            var byte: UInt8 = 0
            _ = Glibc.write(RawTerminal.wakeWrite, &byte, 1)
        }
        for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGSEGV, SIGFPE]
        {
            signal(number) { number in
                RawTerminal.giveBack()
                signal(number, SIG_DFL)
                raise(number)
            }
        }
    }
}
