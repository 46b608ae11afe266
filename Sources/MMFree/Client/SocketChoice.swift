// SPDX-License-Identifier: Apache-2.0

import Glibc
package import RPC
import SystemPackage

/// Which sockets to try for a daemon, and what to say when there is none.
package struct SocketChoice: Equatable, Sendable {
    /// The system's daemon; systemd makes it.
    package static let system = "/run/mmfreed/mmfreed.sock"

    /// In the order to try.
    package let paths: [String]
    /// `nil` for the standard places; else what named the path.
    package let source: String?

    /// - Parameters:
    ///   - given: the path that the caller was given, if any, in one of the ways a socket is written.
    ///   - name: what the caller calls it: "--socket".
    ///   - environment: looks up a variable.
    package init(
        given: String?, name: String, environment: (String) -> String? = environmentVariable
    ) throws(MMFreeError) {
        if let given {
            source = name
            paths = [try Self.path(given, name)]
        } else if let named = environment("MMFREED_SOCKET"), !named.isEmpty {
            source = "$MMFREED_SOCKET"
            paths = [try Self.path(named, "$MMFREED_SOCKET")]
        } else {
            source = nil
            let own = environment("XDG_RUNTIME_DIR").flatMap { $0.hasPrefix("/") ? $0 : nil }
            paths = [Self.system] + (own.map { ["\($0)/mmfreed.sock"] } ?? [])
        }
    }

    static func path(_ text: String, _ source: String) throws(MMFreeError) -> String {
        do { return try SocketSpelling.path(text) } catch {
            throw MMFreeError(.invalidArgument, "\(source): \(error)", reason: "BAD_SOCKET_PATH")
        }
    }

    /// Connects to the first that can be reached.
    ///
    /// - Parameter patience: how long to wait for a daemon that is just being started.
    /// - Parameter user: for whom all calls are, where a gateway makes them.
    func connect(patience: Duration, onBehalfOf user: UInt32? = nil) async throws -> RPCClient {
        let limit = ContinuousClock.now + patience
        while true {
            var problems: [ClientError] = []
            for path in paths {
                do throws(ClientError) {
                    return try await RPCClient.connect(path: path, onBehalfOf: user)
                } catch {
                    problems.append(error)
                }
            }
            let mayCome = problems.contains {
                switch $0 {
                case .noSocket(let path), .refused(let path): Self.fault(of: path) == nil
                default: false
                }
            }
            guard mayCome, ContinuousClock.now < limit else { throw failure(problems) }
            try await LoopExecutor.sleep(for: .milliseconds(20))
        }
    }

    /// Why nobody can be reached: one problem for each path.
    package func failure(_ problems: [ClientError]) -> MMFreeError {
        for case .notAllowed(let path) in problems { return MMFreeError(.notAllowed(path)) }
        let isAbsent = problems.allSatisfy { if case .noSocket = $0 { true } else { false } }
        let own = paths.dropFirst().first
        guard let problem = problems.first else {
            return MMFreeError(.internal, "there is no socket to try")
        }
        var error = MMFreeError(problem)
        guard case .noSocket(let path) = problem.asAbsence else { return error }
        if let what = Self.fault(of: path) {
            error.message = (source.map { "\($0): " } ?? "") + what
        } else if source != nil {
            error.message =
                "\(problem). Start one there with `mmfreed --socket \(path) --models DIRECTORY`, or the system's with "
                + "`systemctl start mmfreed.socket` and use \(Self.system)."
        } else {
            let other = own.map { isAbsent ? ", nor on \($0)" : "; neither can \($0) be reached" }
            let start =
                own == nil
                ? "mmfreed --socket /tmp/mmfreed.sock --models DIRECTORY` and `export MMFREED_SOCKET=/tmp/mmfreed.sock"
                : "mmfreed --socket \(own ?? "") --models DIRECTORY"
            error.message =
                "\(problem)\(other ?? ""). Start the system's with `systemctl start mmfreed.socket`, or one of your own with `\(start)`."
        }
        return error
    }

    /// What is wrong with a path at which nobody listens; `nil` if it is only that.
    package static func fault(of path: String) -> String? {
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

extension ClientError {
    /// `noSocket` for every way in which nobody listens at a path.
    fileprivate var asAbsence: ClientError {
        if case .refused(let path) = self { .noSocket(path) } else { self }
    }
}

/// An environment variable's text; `nil` also for an empty one.
package func environmentVariable(_ name: String) -> String? {
    guard let value = getenv(name), value[0] != 0 else { return nil }
    return String(cString: value)
}
