// SPDX-License-Identifier: Apache-2.0

import Glibc
import Logging
import RPC
import Serving
import SystemdSupport

/// A daemon whose settings cannot be used: it answers every call with what is wrong.
///
/// It holds duplicates of the sockets, so that the answer can become another one.
final class Refusal {
    private let sockets: [InheritedSocket]
    private let logger: Logger
    private let notifier: Notifier
    private var server: RPCServer?
    private var share: ShareServer?
    private var text = ""

    init(_ sockets: [InheritedSocket], _ logger: Logger, _ notifier: Notifier) {
        self.sockets = sockets
        self.logger = logger
        self.notifier = notifier
    }

    /// Answers with this error from now on.
    func begin(_ error: any Error) throws {
        logger.error("\(error)", metadata: ["message-id": "\(Event.badConfiguration)"])
        if "\(error)" != text { try listen(saying: "\(error)") }
        notifier.ready(status: "Refusing all requests: \(error)")
    }

    private func listen(saying text: String) throws {
        close()
        var transport = RPCServer.Configuration()
        let error = RPCError(
            .failedPrecondition,
            "the daemon's configuration cannot be used: \(text). Correct it and run `systemctl reload mmfreed.service`",
            reason: "BAD_CONFIGURATION")
        transport.refusal = error
        let server = RPCServer(services: Services(), configuration: transport, logger: logger)
        let share = ShareServer(logger: logger) { _, _, reply in reply(.failure(error)) }
        for socket in sockets {
            let address = RPCServer.Address.descriptor(
                fcntl(socket.descriptor, F_DUPFD_CLOEXEC, 3))
            switch socket.use {
            case .api: try server.listen(on: address)
            case .share: try share.listen(on: address)
            }
        }
        (self.server, self.share) = (server, share)
        self.text = text
    }

    /// Looks whether the settings are sound now.
    ///
    /// - Returns: whether to go on refusing. If not, the next client starts another daemon.
    func reload(_ settings: Settings) throws -> Bool {
        notifier.reloading()
        do { try settings.check() } catch {
            try begin(error)
            return true
        }
        logger.notice(
            "the configuration can be used now: ending, so that the next client starts the daemon anew"
        )
        notifier.ready(status: "The configuration can be used now")
        return false
    }

    func end() {
        notifier.stopping()
        close()
    }

    private func close() {
        server?.close()
        share?.close()
    }
}
