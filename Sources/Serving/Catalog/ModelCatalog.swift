// SPDX-License-Identifier: Apache-2.0
//
// The models there are, by name and version. Requests take a version that is mapped, or are put aside until it is; control calls
// look at the state and never wait for a disk. What is decided is in `CatalogState`, what touches the disk in
// `ModelCatalog+Loading`.

import CLinux
import Engine
import Glibc
package import Logging
package import ModelStore
import RPC
import Synchronization
import SystemPackage

package final class ModelCatalog: Sendable {
    struct Shared {
        var state: CatalogState
        var waiting: WaitingRequests
        /// When the directories were last looked at (CLOCK_MONOTONIC, nanoseconds), and how they were.
        var scanned: (at: UInt64, ModelDirectory.Stamp) = (0, ModelDirectory.Stamp())
        var isStopping = false
        var onRetired: @Sendable ([LoadedModel]) -> Void = { _ in }
        var after: Timer = { _, _ in }
        /// A look at idle models is due.
        var watchesIdle = false
        /// Whether requests for the model of that name are open.
        var isBusy: @Sendable (String) -> Bool = { _ in false }
        /// The last look at what is in memory, by name and digest, and when.
        var measured: (at: UInt64, [String: MemoryUse]) = (0, [:])
    }

    /// Runs a closure after so many nanoseconds.
    package typealias Timer = @Sendable (UInt64, @escaping @Sendable () -> Void) -> Void

    let directory: ModelDirectory
    /// Its paths, from the root.
    let places: [String]
    let configuration: ServingConfiguration
    let logger: Logger
    let shared: Mutex<Shared>
    /// Reads directories; a file that is slow to open does not hold it up.
    let scanner = JobThread(name: "mmf-scanner")
    /// Opens files and reads them into memory.
    let loader = JobThread(name: "mmf-loader")
    /// Brings files into memory and gives their pages back.
    let memory = JobThread(name: "mmf-memory")
    /// Compares digests.
    let verifier = JobThread(name: "mmf-verifier")
    /// Opens a file; runs `step` now and then, which returns false to stop.
    typealias Opener =
        @Sendable (CatalogState.Entry, ServingConfiguration, _ step: () -> Bool) -> Result<
            LoadedModel, Refusal
        >
    let opener: Opener

    /// Scans the directories before it returns; opens no model.
    package convenience init(
        _ directory: ModelDirectory, _ configuration: ServingConfiguration, _ logger: Logger
    ) {
        self.init(directory, configuration, logger, opener: Self.load)
    }

    init(
        _ directory: ModelDirectory, _ configuration: ServingConfiguration, _ logger: Logger,
        opener: @escaping Opener
    ) {
        self.opener = opener
        self.directory = directory
        let working = getcwd(nil, 0)
        let root = working.map { FilePath(platformString: $0) } ?? "/"
        free(working)
        places = directory.paths.map { root.pushing($0).lexicallyNormalized().string }
        self.configuration = configuration
        self.logger = logger
        shared = Mutex(
            Shared(
                state: CatalogState(
                    places: directory.paths.map(\.string),
                    defaultModel: configuration.defaultModel,
                    untrusted: configuration.untrustedFiles, user: getuid()),
                waiting: WaitingRequests(
                    limit: max(64, configuration.queue),
                    perUser: max(32, configuration.queuePerUser))))
        _ = scan()
        for info in listing.models where directory.paths.contains(FilePath(info.path)) {
            logger.info("\(info.path) is a file: it is served as the model \(info.name)")
        }
    }

    /// Changes the state, and then does what follows from that.
    func update<R>(_ body: (inout Shared) -> R) -> R {
        let (result, leaving, onRetired, hasWork) = shared.withLock { shared in
            let result = body(&shared)
            return (
                result, shared.state.takeLeaving(), shared.onRetired,
                !shared.state.toOpen.isEmpty
            )
        }
        // What is locked for requests under way would be locked twice with what takes its place.
        for version in leaving { version.model.file.map.unlock() }
        if !leaving.isEmpty { onRetired(leaving) }
        if hasWork { loader.post { [weak self] in self?.openPending() } }
        return result
    }

    // MARK: What is known

    package var names: [String] { shared.withLock { $0.state.names } }

    /// How many versions of a model are mapped: one, and those that requests still keep.
    package func versions(of name: String) -> Int {
        shared.withLock { $0.state.versions(of: name) }
    }

    func isUsable(_ name: String) -> Bool {
        shared.withLock { $0.state.entries[name]?.state.loaded != nil }
    }

    /// Everything, as it is known now.
    var listing: ListModelsResponse {
        shared.withLock { shared in
            var response = ListModelsResponse()
            let standard: String? =
                if case .model(let name) = shared.state.choice() { name } else { nil }
            response.models = shared.state.entries.values.map(\.info)
                .sorted { $0.name < $1.name }
            for index in response.models.indices {
                response.models[index].isDefault = response.models[index].name == standard
            }
            response.skipped = shared.state.skipped.map { file in
                var skipped = SkippedFile()
                skipped.path = file.path
                skipped.reason = file.reason
                return skipped
            }
            response.places = places
            return response
        }
    }

    // MARK: Settings

    /// The model of requests that name none, from now on; `nil`: the only usable one.
    package func setDefault(_ name: String?) {
        shared.withLock { $0.state.defaultModel = name }
    }

    /// Calls `handler` with versions that no new request gets. On any thread.
    func onRetired(_ handler: @escaping @Sendable ([LoadedModel]) -> Void) {
        shared.withLock { $0.onRetired = handler }
    }

    func keepTime(with timer: @escaping Timer) { shared.withLock { $0.after = timer } }

    var isStopping: Bool { shared.withLock { $0.isStopping } }

    /// Refuses what waits and whatever comes; does not wait for a file that is being opened.
    package func stop() {
        let ended = shared.withLock { shared in
            shared.isStopping = true
            return shared.waiting.removeAll()
        }
        for request in ended { request.body(.stopping) }
    }

    // MARK: A request's model

    /// Gives `body` the model called `name`, or the default for no name: at once, on this thread, or when it has been opened, on
    /// another.
    ///
    /// - Parameter bytes: what the request holds in memory meanwhile.
    func withModel(
        _ name: String, for call: Call, bytes: Int,
        _ body: @escaping @Sendable (Result<LoadedModel, CatalogError>) -> Void
    ) {
        withModel(name, Attempt(call: call, bytes: bytes), body)
    }

    private struct Attempt {
        let call: Call
        let bytes: Int
        var isFirst = true
        var hasScanned = false
    }

    private enum Lookup {
        case found(LoadedModel)
        case failed(CatalogError)
        case opening(String)
        case scan
    }

    private func withModel(
        _ name: String, _ attempt: Attempt,
        _ body: @escaping @Sendable (Result<LoadedModel, CatalogError>) -> Void
    ) {
        var next = attempt
        next.isFirst = false
        let awaited: String
        switch lookup(name, attempt) {
        case .found(let model):
            noteUse(of: model)
            return body(.success(model))
        case .failed(let error): return body(.failure(error))
        case .opening(let name): awaited = name
        case .scan:
            awaited = WaitingRequests.scan
            next.hasScanned = true
        }
        let call = attempt.call
        let waits = wait(
            for: [awaited], account: call.peer.account, bytes: attempt.bytes, until: call.deadline,
            onCancel: call.onCancel
        ) { [self, next] outcome in
            switch outcome {
            case .settled: withModel(name, next, body)
            case .expired: body(.failure(.tooLate(name)))
            case .stopping: body(.failure(.stopping))
            }
        }
        if !waits { body(.failure(isStopping ? .stopping : .crowded(awaited))) }
    }

    private func lookup(_ asked: String, _ attempt: Attempt) -> Lookup {
        if asked.isEmpty, attempt.isFirst { retryChanged() }
        while true {
            let (choice, path) = shared.withLock { shared in
                let choice = asked.isEmpty ? shared.state.choice() : shared.state.choice(asked)
                guard case .model(let name) = choice else { return (choice, FilePath()) }
                return (choice, shared.state.entries[name]?.file.path ?? FilePath())
            }
            switch choice {
            case .model(let name):
                switch admit(name, path, mayRetry: attempt.isFirst) {
                case .serve(let model): return .found(model)
                case .wait: return .opening(name)
                case .fail(let error): return .failed(error)
                case .gone: continue
                }
            case .unclear(let name):
                update { $0.state.want(name) }
                return .opening(name)
            case .fail(let error):
                if case .ambiguous(let names) = error, dropVanished(names) { continue }
                return attempt.hasScanned || !isScanOld ? .failed(error) : .scan
            }
        }
    }

    private func admit(
        _ name: String, _ path: FilePath, mayRetry: Bool
    ) -> CatalogState.Verdict {
        let now = Result { () throws(StoreError) in try FileIdentity(path: path) }
        return update {
            $0.state.admit(name, now, mayRetry: mayRetry, at: cl_monotonic_nanoseconds())
        }
    }

    /// Files that were refused and have changed since are candidates again.
    private func retryChanged() {
        let refused = shared.withLock { shared in
            shared.state.entries.values.filter {
                if case .refused = $0.state { true } else { false }
            }
        }
        for entry in refused { _ = admit(entry.file.name, entry.file.path, mayRetry: true) }
    }

    /// - Returns: whether one of these models' files is gone.
    private func dropVanished(_ names: [String]) -> Bool {
        let files = shared.withLock { shared in
            names.compactMap { shared.state.entries[$0]?.file }
        }
        return files.reduce(false) { isGone, file in
            if case .gone = admit(file.name, file.path, mayRetry: false) { true } else { isGone }
        }
    }

    /// A file may have been copied in since. The target of a link appears without a change of the directory, hence the second.
    private var isScanOld: Bool {
        let (time, stamp) = shared.withLock { $0.scanned }
        return cl_monotonic_nanoseconds() &- time > 1_000_000_000
            || directory.hasChanged(since: stamp)
    }

    /// Has models opened that nobody has asked for yet.
    func want(_ names: [String]) {
        update { shared in
            for name in names { shared.state.want(name) }
        }
    }

    // MARK: Waiting

    /// Has `body` run on another thread when `names` are settled, or time is up; at once if they are.
    ///
    /// - Returns: false if too many wait or the daemon stops: then `body` is not run.
    func wait(
        for names: Set<String>, account: Account, bytes: Int, until deadline: UInt64,
        onCancel: (@escaping @Sendable () -> Void) -> Void = { _ in },
        _ body: @escaping @Sendable (WaitingRequests.Outcome) -> Void
    ) -> Bool {
        enum Place {
            case waits(UInt64, Timer)
            case settled, refused
        }
        let scans = names.contains(WaitingRequests.scan)
        let place: Place = shared.withLock { shared in
            guard !shared.isStopping else { return .refused }
            let open = names.filter { shared.state.isUnsettled($0) }
            guard scans || !open.isEmpty else { return .settled }
            let number = shared.waiting.add(
                scans ? names : open, account: account, bytes: bytes, body)
            return number.map { .waits($0, shared.after) } ?? .refused
        }
        switch place {
        case .refused: return false
        case .settled: body(.settled)
        case .waits(let number, let after):
            if scans { scanner.post { [weak self] in _ = self?.scan() } }
            let now = cl_monotonic_nanoseconds()
            after(deadline > now ? deadline - now : 0) { [weak self] in
                self?.withdraw(number)?.body(.expired)
            }
            onCancel { [weak self] in _ = self?.withdraw(number) }
        }
        return true
    }

    private func withdraw(_ number: UInt64) -> WaitingRequests.Request? {
        shared.withLock { $0.waiting.remove(number) }
    }

    /// Lets those go on who waited for `name`.
    func settled(_ name: String) {
        let ready = shared.withLock { shared in
            shared.state.isUnsettled(name) ? [] : shared.waiting.settle(name)
        }
        // The loader has other files to open.
        if !ready.isEmpty {
            startThread(name: "mmf-resume") { for request in ready { request.body(.settled) } }
        }
    }
}
