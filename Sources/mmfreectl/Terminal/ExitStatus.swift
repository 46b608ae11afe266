// SPDX-License-Identifier: Apache-2.0

import Engine
import MMFree
import ModelStore
import Packer
import SystemPackage

/// What the program tells its caller by its exit status; the numbers are sysexits.h's.
enum ExitStatus: Int32, CaseIterable {
    case success = 0
    case failure = 1
    case usage = 64
    case data = 65
    case noInput = 66
    case unavailable = 69
    case software = 70
    case cannotCreate = 73
    case io = 74
    case temporary = 75
    case noPermission = 77
    case configuration = 78
    case interrupted = 130

    static let summary = """
        0 done; 1 a comparison failed; 64 wrong arguments or an invalid request; 65 damaged or unsupported data; 66 no such file, model or \
        request; 69 no daemon, or it is stopping; 70 a bug; 73 the output cannot be made; 74 input or output failed; \
        75 busy or out of time, try again; 77 not allowed; 78 the model or the daemon must be fixed first; 130 interrupted.
        """
}

/// An error as the person at the terminal should hear it.
struct Failure: Error {
    var message: String
    var status: ExitStatus

    init(_ message: String, _ status: ExitStatus) {
        self.message = message
        self.status = status
    }

    /// - Returns: `nil` for what is ArgumentParser's to tell: help, versions, wrong arguments.
    init?(_ error: any Error) {
        switch error {
        case let error as Failure: self = error
        case let error as MMFreeError: self.init(client: error)
        case is CancellationError: self.init("interrupted", .interrupted)
        case let error as StoreError: self.init(error.description, Self.status(of: error))
        case let error as PackError:
            if case .cancelled = error {
                self.init("interrupted; nothing was left behind", .interrupted)
            } else {
                self.init(error.description, Self.status(of: error))
            }
        case let error as VersionError: self.init(error.description, Self.status(of: error))
        case let error as Errno: self.init(error.description, .io)
        case let error as ModelError: self.init("\(error)", .data)
        default: return nil
        }
    }

    private init(client error: MMFreeError) {
        var message = error.message
        if error.isFromDaemon, let after = error.retryAfter {
            message += " (try again in \(String(printf: "%.1f", after / .seconds(1))) s)"
        }
        self.init(message, Self.status(of: error))
    }

    private static func status(of error: MMFreeError) -> ExitStatus {
        // Trying again helps with other limits, not with these.
        if let reason = error.reason, ["FRAME_TOO_LARGE", "ANSWER_TOO_LARGE"].contains(reason) {
            return .usage
        }
        return switch error.code {
        case .invalidArgument, .outOfRange, .unimplemented: .usage
        case .notFound: .noInput
        case .dataLoss: .data
        case .permissionDenied, .unauthenticated: .noPermission
        case .failedPrecondition: .configuration
        case .resourceExhausted, .deadlineExceeded, .aborted: .temporary
        case .unavailable: .unavailable
        case .cancelled: .interrupted
        default: .software
        }
    }

    private static func status(of error: StoreError) -> ExitStatus {
        switch error {
        case .io(_, "create", _): .cannotCreate
        case .io(let errno, _, _): status(of: errno)
        case .exists, .noSpace, .destination: .cannotCreate
        default: .data
        }
    }

    private static func status(of error: VersionError) -> ExitStatus {
        switch error {
        case .noModel, .noVersion, .noEarlier: .noInput
        case .severalVersions, .isCurrent: .usage
        case .notAllowed: .noPermission
        case .interrupted: .interrupted
        }
    }

    private static func status(of error: PackError) -> ExitStatus {
        switch error {
        case .store(let error): status(of: error)
        case .io(_, let doing) where doing.hasPrefix("create "): .cannotCreate
        case .io(let errno, _): status(of: errno)
        case .destinationExists: .cannotCreate
        case .noCheckpoint: .noInput
        default: .data
        }
    }

    static func status(of errno: Errno) -> ExitStatus {
        switch errno {
        case .noSuchFileOrDirectory: .noInput
        case .permissionDenied: .noPermission
        default: .io
        }
    }
}
