// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import Logging
import ModelStore
import RPC
import Synchronization
import SystemPackage

/// Which model a request on the share socket gets, how often one user may ask, and what the log has of it.
final class ShareService: Sendable {
    private let catalog: ModelCatalog
    private let logger: Logger
    private struct Limits {
        var requests = RateLimit(perSecond: 200, burst: 1000)
        /// Records above the level "debug".
        var records = RateLimit(perSecond: 1, burst: 10)
    }
    private let limits = Mutex(Limits())
    /// What a request takes while it waits for a model.
    private static let bytes = 4096

    init(catalog: ModelCatalog, logger: Logger) {
        self.catalog = catalog
        self.logger = logger
    }

    /// Answers a request: at once, or when its model has been opened. Never waits.
    func share(
        _ request: ShareRequest, _ call: Call,
        _ reply: @escaping @Sendable (Result<SharedFile, RPCError>) -> Void
    ) {
        if let wait = limits.withLock({ $0.requests.take(call.peer.account, at: call.received) }) {
            return end(.failure(Self.tooOften(call.peer, wait)), call, reply)
        }
        let body: @Sendable (Result<LoadedModel, CatalogError>) -> Void = { [self] found in
            end(Self.file(found, request), call, reply)
        }
        if request.model.isEmpty, !request.digest.isEmpty {
            catalog.withModel(digest: request.digest, for: call, bytes: Self.bytes, body)
        } else {
            catalog.withModel(request.model, for: call, bytes: Self.bytes, body)
        }
    }

    private static func file(
        _ found: Result<LoadedModel, CatalogError>, _ request: ShareRequest
    ) -> Result<SharedFile, RPCError> {
        found.mapError { RPCError($0) }.flatMap { version in
            let info = version.info
            guard request.digest.isEmpty || request.digest == info.digest else {
                return .failure(
                    RPCError(
                        .failedPrecondition,
                        "model '\(info.name)' has the digest \(info.digest), not \(request.digest)",
                        reason: "DIGEST_MISMATCH"))
            }
            // Who has a descriptor may open its file again with the file's permissions, wherever its path lies.
            guard info.protection != .plain || !version.identity.isWritableByOthers else {
                return .failure(
                    RPCError(
                        .failedPrecondition,
                        "model '\(info.name)' is not shared, for users other than its owner may write \(info.path): take that permission away (chmod go-w), or set untrusted_models to copy",
                        reason: "MODEL_UNTRUSTED"))
            }
            let response = ShareResponse(
                name: info.name, digest: info.digest, fileBytes: info.fileBytes,
                formatVersion: (try? version.model.file.metadata.uint32(
                    forKey: version.model.file.metadata.own.formatVersion)) ?? 0,
                protection: info.protection)
            return .success(
                SharedFile(response, descriptor: version.descriptor.rawValue, owner: version))
        }
    }

    private static func tooOften(_ peer: Peer, _ wait: UInt64) -> RPCError {
        let message =
            "user \(peer.uid) has asked for descriptors too often: 200 a second are allowed, and 1000 at once"
        var error = RPCError(.resourceExhausted, message, reason: "TOO_MANY_CALLS")
            .retrying(after: wait)
        error.quota = .init(field: "uid:\(peer.uid)", description: message)
        return error
    }

    private func end(
        _ result: Result<SharedFile, RPCError>, _ call: Call,
        _ reply: @Sendable (Result<SharedFile, RPCError>) -> Void
    ) {
        defer { reply(result) }
        let isHeld = limits.withLock {
            $0.records.take(call.peer.account, at: cl_monotonic_nanoseconds()) != nil
        }
        let who = "user \(call.peer.uid), process \(call.peer.pid)"
        var metadata: Logger.Metadata = [
            "uid": "\(call.peer.uid)", "pid": "\(call.peer.pid)",
        ]
        switch result {
        case .success(let file):
            metadata["message-id"] = "\(Event.modelShared)"
            metadata["model"] = "\(file.response.name)"
            metadata["digest"] = "\(file.response.digest)"
            logger.log(
                level: isHeld ? .debug : .info,
                "shared model \(file.response.name) with \(who)", metadata: metadata)
        case .failure(let error):
            metadata["message-id"] = "\(Event.requestRefused)"
            metadata["code"] = "\(error.code.name)"
            logger.log(
                level: isHeld ? .debug : .notice, "refused \(who) a descriptor: \(error)",
                metadata: metadata)
        }
    }
}
