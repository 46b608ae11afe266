// SPDX-License-Identifier: Apache-2.0

import CLinux
import Engine
import Glibc
import Logging
import ModelStore
package import RPC
import SystemPackage

/// What the catalog does on the disk. All of it runs on threads of its own, but for the first scan.
extension ModelCatalog {
    /// Looks at the directories again and gives `body` what has changed, on another thread.
    package func rescan(_ body: @escaping @Sendable (ReloadResponse) -> Void) {
        scanner.post { [self] in body(scan()) }
    }

    func scan() -> ReloadResponse {
        let found = directory.scan()
        let changes = update { shared in
            shared.scanned = (cl_monotonic_nanoseconds(), found.stamp)
            return shared.state.merge(found)
        }
        for warning in changes.warnings { logger.warning("\(warning), ignoring") }
        settled(WaitingRequests.scan)
        var response = ReloadResponse()
        (response.added, response.replaced, response.removed) = (
            changes.added, changes.replaced, changes.removed
        )
        return response
    }

    /// Opens what is to be opened; also between two steps of something longer.
    func openPending() {
        while let entry = update({ $0.state.nextToOpen() }) { open(entry) }
    }

    private func open(_ entry: CatalogState.Entry) {
        let (name, began) = (entry.file.name, cl_monotonic_nanoseconds())
        if entry.isSuspect {
            logger.notice(
                "\(entry.file.path) has been written in place: its bytes are compared with their digests before it is served",
                metadata: ["model": "\(name)"])
        }
        let result = opener(entry, configuration) { [self] in
            openPending()
            return !isStopping
        }
        let version = try? result.get()
        let isPrepared = configuration.prefault || configuration.lockMemory
        let counts = update { shared in
            shared.state.opened(
                entry, result, preparing: isPrepared ? version?.model.file.byteCount : nil,
                at: cl_monotonic_nanoseconds())
        }
        guard counts else { return settled(name) }
        switch result {
        case .failure(let refusal): logRefusal(name, refusal)
        case .success(let version):
            logger.info(
                "mapped model \(name)",
                metadata: [
                    "message-id": "\(Event.modelMapped)", "model": "\(name)",
                    "digest": "\(version.model.digest)",
                    "bytes": "\(version.model.file.byteCount)",
                    "protection": "\(version.info.protection)",
                    "ms": "\((cl_monotonic_nanoseconds() &- began) / 1_000_000)",
                ])
            if version.model.file.map.isCopy, let reason = version.identity.distrust(user: getuid())
            {
                logger.notice(
                    "\(entry.file.path) \(reason): a sealed copy in memory is served, \(version.model.file.byteCount) bytes",
                    metadata: ["model": "\(name)"])
            }
            if isPrepared { prepare(version) }
            let wanted = update { $0.state.entries[name]?.memory ?? .asNeeded }
            if wanted.isWanted {
                memory.post { [weak self] in self?.bringAgain(version, wanted) }
            }
            if version.digestCheck == .running {
                verifier.post { [weak self, weak version] in
                    if let version { self?.verify(version) }
                }
            }
        }
        settled(name)
    }

    private func logRefusal(_ name: String, _ refusal: Refusal) {
        logger.error(
            "refused model \(name): \(refusal.reason)",
            metadata: ["message-id": "\(Event.modelRefused)", "model": "\(name)"])
    }

    static func load(
        _ entry: CatalogState.Entry, _ configuration: ServingConfiguration, _ step: () -> Bool
    ) -> Result<LoadedModel, Refusal> {
        do {
            // File systems count time in steps of up to 10 ms: what is written from now on gets another time.
            if entry.isSuspect { usleep(20_000) }
            let file = try PackedFile(
                MappedFile(
                    path: entry.file.path, untrusted: configuration.untrustedFiles, step: step))
            let isBlocking = entry.isSuspect || configuration.verification == .block
            if isBlocking { try file.verify { _, _ in step() } }
            return .success(
                LoadedModel(
                    entry.file.name,
                    try Model(file, keyValues: configuration.keyValueType),
                    check: isBlocking
                        ? .passed : configuration.verification == .skip ? .skipped : .running))
        } catch {
            return .failure(Refusal(error))
        }
    }

    /// Brings a model's file into memory and keeps it there, as the settings want it.
    private func prepare(_ version: LoadedModel) {
        let (name, map, began) = (
            version.name, version.model.file.map, cl_monotonic_nanoseconds()
        )
        do {
            try map.prefault { done in
                update { $0.state.prepared(version, done: done, isComplete: false) }
                openPending()
                return !isStopping && !version.isRetired
            }
            if configuration.lockMemory, !isStopping { try map.lock() }
            logger.info(
                "model \(name) is in memory",
                metadata: [
                    "model": "\(name)", "huge_page_bytes": "\(map.hugePageBytes)",
                    "ms": "\((cl_monotonic_nanoseconds() &- began) / 1_000_000)",
                ])
        } catch {
            logger.warning("\(error), ignoring", metadata: ["model": "\(name)"])
        }
        update { $0.state.prepared(version, done: map.count, isComplete: true) }
    }

    /// Compares a mapped version with its digests, at most half of the time, in the background of everything else.
    private func verify(_ version: LoadedModel) {
        // A service manager that forbids it is obeyed.
        _ = cl_lower_priority()
        var (last, isStopped) = (cl_monotonic_nanoseconds(), false)
        do {
            try version.model.file.verify { [self] _, _ in
                usleep(UInt32(min(100_000, (cl_monotonic_nanoseconds() &- last) / 1000)))
                last = cl_monotonic_nanoseconds()
                isStopped = isStopping || version.isRetired
                return !isStopped
            }
            if !isStopped { version.passed() }
        } catch {
            let refusal = Refusal(error)
            update { $0.state.condemn(version, refusal, at: cl_monotonic_nanoseconds()) }
            logRefusal(version.name, refusal)
        }
    }

    /// Opens all models and brings them into memory, if the settings want them there. Those that cannot be used are left out,
    /// having been logged.
    ///
    /// - Parameter progress: told a model's name, its bytes done so far and all its bytes; returns false to stop.
    package func prepareAll(_ progress: (String, Int, Int) -> Bool) {
        guard configuration.prefault || configuration.lockMemory else { return }
        for name in names where !isUsable(name) {
            update { $0.state.want(name) }
            var told = 0
            while true {
                let state = update { $0.state.entries[name]?.state }
                switch state {
                case .preparing(_, let done, let all) where done != told:
                    told = done
                    guard done == all || progress(name, done, all) else { return }
                case .mapped(let version):
                    let size = version.model.file.byteCount
                    guard progress(name, size, size) else { return }
                case .unopened, .opening, .preparing: break
                case .refused, nil: break
                }
                if case .opening = state {} else if case .preparing = state {} else { break }
                usleep(10_000)
            }
        }
    }
}
