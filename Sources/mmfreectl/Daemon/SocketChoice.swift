// SPDX-License-Identifier: Apache-2.0

import Glibc
import RPC
import SystemPackage

/// Which sockets to try for a daemon, and what to say when there is none.
struct SocketChoice: Equatable {
    /// The system's daemon; systemd makes it.
    static let system = "/run/mmfreed/mmfreed.sock"
    /// What `sockaddr_un` holds besides the NUL.
    static let limit = 107

    /// In the order to try.
    let paths: [String]
    /// `nil` for the standard places; else what named the path.
    let source: String?

    /// - Parameters:
    ///   - option: the value of --socket.
    ///   - environment: looks up a variable.
    init(option: String?, environment: (String) -> String?) throws(Failure) {
        if let option {
            source = "--socket"
            paths = [try Self.path(option, "--socket")]
        } else if let named = environment("MMFREED_SOCKET"), !named.isEmpty {
            source = "$MMFREED_SOCKET"
            paths = [try Self.path(named, "$MMFREED_SOCKET")]
        } else {
            source = nil
            let own = environment("XDG_RUNTIME_DIR").flatMap { $0.hasPrefix("/") ? $0 : nil }
            paths = [Self.system] + (own.map { ["\($0)/mmfreed.sock"] } ?? [])
        }
    }

    /// The path in one of the ways a socket is written: PATH, unix:PATH, unix:///PATH.
    private static func path(_ text: String, _ source: String) throws(Failure) -> String {
        var path = text[...]
        let scheme = text.prefix { $0 != ":" }
        if text.hasPrefix("unix:///") {
            path = text.dropFirst("unix://".count)
        } else if text.hasPrefix("unix://") {
            throw Failure(
                "\(source): '\(text)': unix:// takes an absolute path, as in unix:///run/mmfreed/mmfreed.sock; write the path alone",
                .usage)
        } else if text.hasPrefix("unix:") {
            path = text.dropFirst("unix:".count)
        } else if text.dropFirst(scheme.count).hasPrefix("://") || text.hasPrefix("unix-") {
            throw Failure(
                "\(source): '\(text)': the daemon listens on a Unix socket only; write the path alone",
                .usage)
        }
        guard !path.isEmpty else {
            throw Failure("\(source) is empty: write the path of the daemon's socket", .usage)
        }
        guard path.utf8.count <= limit else {
            throw Failure(
                "\(source) is too long: a socket's path has at most \(limit) bytes, this has \(path.utf8.count); "
                    + "use a relative path or a symbolic link to its directory", .usage)
        }
        return String(path)
    }

    /// Why nobody can be reached: one problem for each path.
    func failure(_ problems: [ClientError]) -> Failure {
        for case .notAllowed(let path) in problems { return Failure(ClientError.notAllowed(path))! }
        let isAbsent = problems.allSatisfy { if case .noSocket = $0 { true } else { false } }
        let own = paths.dropFirst().first
        switch problems.first {
        case .noSocket(let path), .refused(let path):
            if let what = Self.fault(of: path) {
                let place = source.map { "\($0): " } ?? ""
                return Failure("\(place)\(what)", .unavailable)
            }
            guard source == nil else {
                return Failure(
                    "\(problems[0]). Start one there with `mmfreed --socket \(path) --models DIRECTORY`, or the system's with "
                        + "`systemctl start mmfreed.socket` and use \(Self.system).", .unavailable)
            }
            let other = own.map { isAbsent ? ", nor on \($0)" : "; neither can \($0) be reached" }
            let start =
                own == nil
                ? "mmfreed --socket /tmp/mmfreed.sock --models DIRECTORY` and `export MMFREED_SOCKET=/tmp/mmfreed.sock"
                : "mmfreed --socket \(own ?? "") --models DIRECTORY"
            return Failure(
                "\(problems[0])\(other ?? ""). Start the system's with `systemctl start mmfreed.socket`, or one of your own with `\(start)`.",
                .unavailable)
        case let problem?: return Failure(problem) ?? Failure("\(problem)", .unavailable)
        case nil: return Failure("there is no socket to try", .software)
        }
    }

    /// What is wrong with a path at which nobody listens; `nil` if it is only that.
    static func fault(of path: String) -> String? {
        var status = stat()
        if stat(path, &status) == 0 {
            let what: String
            switch status.st_mode & S_IFMT {
            case S_IFSOCK: return nil
            case S_IFDIR:
                let inside = path + (path.hasSuffix("/") ? "" : "/") + "mmfreed.sock"
                let hint = access(inside, F_OK) == 0 ? ": did you mean \(inside)?" : ""
                return "\(path) is a directory, not a socket\(hint)"
            case S_IFREG: what = "a regular file"
            case S_IFIFO: what = "a FIFO"
            default: what = "a device"
            }
            return "\(path) is \(what), not a socket"
        }
        let problem = Errno(rawValue: errno)
        var bare = path
        while bare.count > 1, bare.hasSuffix("/") { bare.removeLast() }
        if bare != path, stat(bare, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK {
            return "\(path): write it without the slash at its end"
        }
        if problem == .noSuchFileOrDirectory, lstat(path, &status) == 0 {
            return "\(path) is a symbolic link to something that is not there"
        }
        let parent = FilePath(bare).removingLastComponent().string
        if path != system, !parent.isEmpty, stat(parent, &status) != 0 {
            let why = Errno(rawValue: errno)
            return why == .noSuchFileOrDirectory
                ? "no daemon is listening on \(path): there is no directory \(parent)"
                : "no daemon is listening on \(path): \(parent): \(why)"
        }
        return problem == .noSuchFileOrDirectory ? nil : "\(path): \(problem)"
    }
}

/// An environment variable's text; `nil` also for an empty one.
func environment(_ name: String) -> String? {
    guard let value = getenv(name), value[0] != 0 else { return nil }
    return String(cString: value)
}
