// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

/// Texts and bytes from files, or from standard input where the path is "-". Texts are UTF-8; a byte order mark is no part of
/// one.
final class Input {
    /// "standard input", or the path.
    let name: String
    private let file: FileDescriptor
    private let isOwned: Bool

    init(_ path: String) throws(Failure) {
        isOwned = path != "-"
        name = isOwned ? path : "standard input"
        guard isOwned else {
            file = .standardInput
            if isatty(0) == 1 { Terminal.note("(reading from the terminal; end with Ctrl-D)") }
            return
        }
        do {
            file = try .open(path, .readOnly, options: .closeOnExec)
        } catch { throw Self.failure(path, error) }
    }

    deinit { if isOwned { try? file.close() } }

    private static func failure(_ name: String, _ error: any Error) -> Failure {
        let problem = error as? Errno ?? .ioError
        return Failure("cannot read \(name): \(problem)", Failure.status(of: problem))
    }

    /// Bytes of the file; `nil` of what is no regular one.
    var size: Int? {
        var status = stat()
        guard fstat(file.rawValue, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            return nil
        }
        return Int(status.st_size)
    }

    /// Returns how many bytes have come; 0 at the end.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws(Failure) -> Int {
        while true {
            do { return try file.read(into: buffer) } catch {
                // Whoever shares the pipe may have made it so.
                guard error as? Errno == .wouldBlock else { throw Self.failure(name, error) }
                Terminal.waitUntilReady(file.rawValue, POLLIN)
            }
        }
    }

    /// All of it.
    ///
    /// - Parameter limit: in bytes; more is refused.
    func bytes(limit: Int) throws(Failure) -> [UInt8] {
        func refuse(_ count: Int64) -> Failure {
            let size = count > limit ? "\(count) bytes" : "more than \(limit) bytes"
            return Failure(
                "\(name) has \(size); a text may have \(limit): cut it in pieces", .data)
        }
        var status = stat()
        if fstat(file.rawValue, &status) == 0, status.st_size > limit {
            throw refuse(Int64(status.st_size))
        }
        var bytes: [UInt8] = []
        let part = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
        defer { part.deallocate() }
        while true {
            let count = try read(into: part)
            guard count > 0 else { return bytes }
            guard bytes.count + count <= limit else { throw refuse(0) }
            bytes.append(contentsOf: part[..<count])
        }
    }

    func text(limit: Int) throws(Failure) -> String {
        try Self.text(bytes(limit: limit)[...], name)
    }

    static func text(_ bytes: ArraySlice<UInt8>, _ name: String) throws(Failure) -> String {
        let bytes = bytes.starts(with: byteOrderMark) ? bytes.dropFirst(3) : bytes
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw Failure("\(name) is not UTF-8 text", .data)
        }
        return text
    }

    private static let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]
}

/// Lines of text, one at a time. LF and CR LF end a line; the last one needs no end. Every line counts, blank ones too.
struct Lines {
    private let name: String
    private let limit: Int
    private let read: (UnsafeMutableRawBufferPointer) throws -> Int
    /// Read and not yet given out: `buffer[start...]`, without a line feed before `searched`.
    private var buffer: [UInt8] = []
    private var start = 0
    private var searched = 0
    private var isAtEnd = false
    /// Lines given out so far.
    private(set) var count = 0

    /// - Parameters:
    ///   - limit: the longest line, in bytes.
    ///   - read: fills a buffer and returns how many bytes it has put there; 0 at the end.
    init(
        _ name: String, limit: Int, read: @escaping (UnsafeMutableRawBufferPointer) throws -> Int
    ) {
        (self.name, self.limit, self.read) = (name, limit, read)
    }

    /// - Returns: `nil` after the last line.
    /// - Throws: `Failure` that names the line: not UTF-8, too long, or with a NUL or CR in it, as in UTF-16 and old Mac files.
    mutating func next() throws -> String? {
        while true {
            if let end = buffer[searched...].firstIndex(of: 0x0A) {
                defer { (start, searched) = (end + 1, end + 1) }
                return try line(buffer[start..<end], hasEnd: true)
            }
            if isAtEnd {
                guard start < buffer.count else { return nil }
                defer { (start, searched) = (buffer.count, buffer.count) }
                return try line(buffer[start...], hasEnd: false)
            }
            buffer.removeFirst(start)
            (start, searched) = (0, buffer.count)
            guard buffer.count <= limit + 2 else { throw tooLong }
            try fill()
        }
    }

    private mutating func fill() throws {
        let part = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
        defer { part.deallocate() }
        let got = try read(part)
        buffer.append(contentsOf: part[..<got])
        isAtEnd = got == 0
    }

    private mutating func line(_ bytes: ArraySlice<UInt8>, hasEnd: Bool) throws -> String {
        let text = hasEnd && bytes.last == 0x0D ? bytes.dropLast() : bytes
        guard text.count <= limit else { throw tooLong }
        if text.contains(0) {
            throw bad("holds a NUL byte: one text a line is read, in UTF-8, not UTF-16")
        }
        if text.contains(0x0D) {
            throw bad("holds a carriage return that ends no line: lines end in LF or CR LF")
        }
        let place = "\(name): line \(count + 1)"
        defer { count += 1 }
        guard count > 0 else { return try Input.text(text, place) }
        guard let line = String(validating: text, as: UTF8.self) else {
            throw bad("is not UTF-8 text")
        }
        return line
    }

    private func bad(_ what: String) -> Failure {
        Failure("\(name): line \(count + 1) \(what)", .data)
    }

    private var tooLong: Failure { bad("has more than \(limit) bytes, the most for one text") }
}
