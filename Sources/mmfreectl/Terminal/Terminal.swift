// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc

/// Writing for people and for programs.
enum Terminal {
    static let inputIsTerminal = isatty(0) == 1
    static let outputIsTerminal = isatty(1) == 1
    static let errorIsTerminal = isatty(2) == 1

    /// Makes sure that writing to a closed or abandoned output is an error. Comes before anything is opened.
    static func prepare() {
        signal(SIGPIPE, SIG_IGN)
        // A closed standard descriptor would be the next file's. Opened for the other direction, using it goes on failing.
        for descriptor in Int32(0)...2 where fcntl(descriptor, F_GETFD) < 0 {
            _ = open("/dev/null", descriptor == 0 ? O_WRONLY : O_RDONLY)
        }
    }

    /// Writes to standard output at once. If that fails, says why and ends the program.
    static func print(_ text: String, terminator: String = "\n") {
        write(text + terminator)
    }

    /// Writes text a model has made. On a terminal, control characters are shown, not obeyed.
    static func printModelText(_ text: String) {
        write(outputIsTerminal ? harmless(text) : text)
    }

    /// Writes bytes to standard output. If that fails, says why and ends the program.
    static func write(_ bytes: UnsafeRawBufferPointer) {
        guard let problem = write(bytes, to: 1) else { return }
        complain("cannot write standard output: \(String(cString: strerror(problem)))")
        exit(ExitStatus.io.rawValue)
    }

    private static func write(_ text: String) {
        var text = text
        text.withUTF8 { write(UnsafeRawBufferPointer($0)) }
    }

    /// Writes a line to standard error. What files and daemons have put into it cannot drive the terminal.
    static func note(_ text: String) { tell(harmless(text) + "\n") }

    /// Writes over the terminal's present line; "" only takes away what is there.
    static func overwrite(_ text: String) {
        tell("\r\u{1B}[K" + harmless(text, keepingLines: false))
    }

    static func complain(_ message: String) { note("mmfreectl: \(message)") }

    /// Nobody to hear it is no reason to end the work.
    private static func tell(_ text: String) {
        var text = text
        text.withUTF8 { _ = write(UnsafeRawBufferPointer($0), to: 2) }
    }

    /// Writes all bytes; returns the error number if that fails.
    static func write(_ bytes: UnsafeRawBufferPointer, to descriptor: Int32) -> Int32? {
        var rest = bytes
        while !rest.isEmpty {
            let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
            guard count >= 0 else {
                switch errno {
                case EINTR: continue
                // Whoever shares the pipe may have made it so.
                case EAGAIN: waitUntilReady(descriptor, POLLOUT)
                default: return errno
                }
                continue
            }
            rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
        }
        return nil
    }

    static func waitUntilReady(_ descriptor: Int32, _ event: Int32) {
        var one = pollfd(fd: descriptor, events: Int16(event), revents: 0)
        poll(&one, 1, -1)
    }

    /// What would move the cursor, colour the text or turn its direction as "\x1b" and "\u{202e}".
    ///
    /// - Parameter keepingLines: whether line feeds and tabs stay.
    static func harmless(_ text: String, keepingLines: Bool = true) -> String {
        func isHarmful(_ scalar: Unicode.Scalar) -> Bool {
            scalar == "\n" || scalar == "\t" ? !keepingLines : scalar.isControl
        }
        guard text.unicodeScalars.contains(where: isHarmful) else { return text }
        var result = ""
        for scalar in text.unicodeScalars {
            if !isHarmful(scalar) {
                result.unicodeScalars.append(scalar)
            } else if scalar.value < 0x100 {
                result += String(printf: "\\x%02x", scalar.value)
            } else {
                result += "\\u{" + String(scalar.value, radix: 16) + "}"
            }
        }
        return result
    }

    /// An object as one line of JSON, its keys sorted, and safe to show: control characters are escaped.
    static func json(_ value: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
        let text = String(decoding: try encoder.encode(value), as: UTF8.self)
        guard text.unicodeScalars.contains(where: \.isControl) else { return text }
        // They stand in strings only, and all are below U+FFFF.
        return text.unicodeScalars.map {
            $0.isControl ? String(printf: "\\u%04x", $0.value) : String($0)
        }.joined()
    }

    /// "1.2 GB", in powers of ten.
    static func bytes(_ count: some BinaryInteger) -> String {
        var value = Double(count)
        var unit = "bytes"
        for next in ["kB", "MB", "GB", "TB"] where value >= 1000 {
            value /= 1000
            unit = next
        }
        guard unit != "bytes" else { return "\(count) bytes" }
        return String(printf: "%.*f ", Int32(value < 10 ? 2 : value < 100 ? 1 : 0), value) + unit
    }
}

extension Unicode.Scalar {
    /// The same as SystemdSupport's: C0, DEL and C1; other line breaks, and marks that turn the direction.
    fileprivate var isControl: Bool {
        switch value {
        case 0..<0x20, 0x7F...0x9F, 0x2028...0x202E, 0x2066...0x2069: true
        default: false
        }
    }
}

extension String {
    /// Numbers as printf(3) writes them, in the C locale. At most 511 bytes.
    init(printf format: String, _ arguments: any CVarArg...) {
        self = withVaList(arguments) { list in
            withUnsafeTemporaryAllocation(of: CChar.self, capacity: 512) { buffer in
                vsnprintf(buffer.baseAddress!, buffer.count, format, list)
                return String(cString: buffer.baseAddress!)
            }
        }
    }
}
