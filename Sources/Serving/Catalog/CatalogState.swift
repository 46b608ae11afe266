// SPDX-License-Identifier: Apache-2.0
//
// The catalog as a value: which models there are, what is known of each, and what is to be done next. It reads no file, knows no
// thread and no clock: `ModelCatalog` tells it what the disk says and carries out what it answers.

import Engine
import ModelStore
import RPC
import SystemPackage

struct CatalogState {
    enum State {
        case unopened
        /// The loader has it. Whoever wants it waits.
        case opening
        case mapped(LoadedModel)
        /// Mapped, and being read into memory: `done` of `of` bytes.
        case preparing(LoadedModel, done: Int, of: Int)
        /// `at`: when, in nanoseconds of CLOCK_MONOTONIC.
        case refused(Refusal, at: UInt64)

        var loaded: LoadedModel? {
            switch self {
            case .mapped(let model), .preparing(let model, _, _): model
            case .unopened, .opening, .refused: nil
            }
        }
    }

    /// What the administrator has asked for.
    enum Memory: String {
        case asNeeded = ""
        case loaded, pinned
        /// Until somebody asks for the model.
        case unloaded

        var isWanted: Bool { self == .loaded || self == .pinned }
    }

    struct Entry {
        /// As it was when it was last looked at; for a refused file, when it was tried.
        var file: ModelDirectory.Entry
        var state = State.unopened
        /// The file was written in place since it was first seen: its digests are compared before it is served again.
        var isSuspect = false
        var memory = Memory.asNeeded
        /// Of the version that was unloaded.
        var lastInfo: ModelInfo?

        /// What is said of it, apart from whether it is the default.
        var info: ModelInfo {
            var info = state.loaded?.info ?? lastInfo ?? ModelInfo()
            info.memory = memory.isWanted ? memory.rawValue : ""
            info.loadedBytes = UInt64(state.loaded?.broughtIn ?? 0)
            info.name = file.name
            info.path = file.path.string
            switch state {
            case .unopened: info.state = memory == .unloaded ? "unloaded" : "unopened"
            case .opening: info.state = "opening"
            case .mapped: info.state = "mapped"
            case .preparing: info.state = "loading"
            case .refused(let refusal, _):
                info.state = "refused"
                info.error = RPCError.cut(refusal.reason)
            }
            return info
        }
    }

    /// What a request for a model gets.
    enum Verdict {
        case serve(LoadedModel)
        /// It is being opened.
        case wait
        case fail(CatalogError)
        /// Its file is gone, and so is the entry.
        case gone
    }

    /// What has come of looking at the directories.
    struct Changes: Equatable {
        var added: [String] = []
        var replaced: [String] = []
        var removed: [String] = []
        /// Warnings that were not given before.
        var warnings: [String] = []
    }

    let places: [String]
    var defaultModel: String?
    private(set) var entries: [String: Entry] = [:]
    private(set) var skipped: [ModelDirectory.Skipped] = []
    private var unreadable: [Int: String] = [:]
    private var warned: Set<String> = []
    /// To be opened by the loader, first come first.
    private(set) var toOpen: [String] = []
    /// Versions that no new request gets; some still have requests of their own.
    private var retired: [Retired] = []
    /// Those not yet told of to who runs them.
    private var leaving: [LoadedModel] = []

    private struct Retired {
        let name: String
        weak var model: Model?
    }

    private let untrusted: UntrustedFiles
    /// The daemon's user, whose own files are trusted.
    private let user: UInt32

    init(
        places: [String], defaultModel: String?, untrusted: UntrustedFiles = .allow, user: UInt32
    ) {
        self.places = places
        self.defaultModel = defaultModel
        self.untrusted = untrusted
        self.user = user
    }

    var names: [String] { entries.keys.sorted() }

    /// The digests of models that are mapped, by name.
    var digests: [String: String] { entries.compactMapValues { $0.state.loaded?.model.digest } }

    /// Where models are looked for, each with what is wrong with it.
    var placesExplained: [String] {
        places.enumerated().map { index, place in
            unreadable[index].map { "\(place) (\($0))" } ?? place
        }
    }

    // MARK: The directories

    /// Takes what a scan found. A place that could not be read keeps the models that were found in it.
    mutating func merge(_ scan: ModelDirectory.Scan) -> Changes {
        var changes = Changes()
        unreadable = scan.unreadable.mapValues { "\($0)" }
        skipped = scan.skipped
        var found: [String: ModelDirectory.Entry] = [:]
        for file in scan.entries { found[file.name] = file }
        for (name, entry) in entries {
            let isKept = scan.unreadable[entry.file.place] != nil
            if isKept, entry.file.place <= found[name]?.place ?? .max {
                found[name] = nil
            } else if found[name] == nil {
                remove(name)
                changes.removed.append(name)
            }
        }
        for file in found.values.sorted(by: { $0.name < $1.name }) {
            guard var entry = entries[file.name] else {
                entries[file.name] = Entry(file: file)
                changes.added.append(file.name)
                continue
            }
            let isSame = entry.file.path == file.path && entry.file.identity == file.identity
            switch entry.state {
            case _ where !isSame:
                replace(&entry, file)
                changes.replaced.append(file.name)
                if entry.memory.isWanted, case .unopened = entry.state {
                    entry.state = .opening
                    toOpen.append(file.name)
                }
            // Worth another try, since somebody asks.
            case .refused: entry.state = .unopened
            case .unopened, .opening, .mapped, .preparing: break
            }
            entries[file.name] = entry
        }
        changes.removed.sort()
        let warnings = self.warnings
        changes.warnings = warnings.filter { !warned.contains($0) }
        warned = Set(warnings)
        return changes
    }

    /// What the administrator should know of the files as they are.
    private var warnings: [String] {
        skipped.map { "\($0.path): \($0.reason)" }
            + entries.values.sorted { $0.file.name < $1.file.name }.compactMap { entry in
                guard untrusted == .allow else { return nil }
                return entry.file.identity.distrust(user: user).map {
                    "\(entry.file.path) \($0)"
                }
            }
    }

    /// The file of an entry is another one, or holds something else.
    private mutating func replace(_ entry: inout Entry, _ file: ModelDirectory.Entry) {
        entry.isSuspect = entry.file.identity.isSameFile(as: file.identity)
        retire(entry)
        entry.file = file
        entry.lastInfo = nil
        if case .opening = entry.state { return }
        entry.state = .unopened
    }

    private mutating func remove(_ name: String) {
        if let entry = entries.removeValue(forKey: name) { retire(entry) }
        toOpen.removeAll { $0 == name }
    }

    private mutating func retire(_ entry: Entry) {
        guard let version = entry.state.loaded else { return }
        version.retire()
        retired.removeAll { $0.model == nil }
        retired.append(Retired(name: entry.file.name, model: version.model))
        leaving.append(version)
    }

    /// Versions that no new request gets, each once.
    mutating func takeLeaving() -> [LoadedModel] {
        defer { leaving = [] }
        return leaving
    }

    /// How many versions of a model are mapped.
    func versions(of name: String) -> Int {
        retired.count { $0.name == name && $0.model != nil }
            + (entries[name]?.state.loaded == nil ? 0 : 1)
    }

    // MARK: A request

    /// Decides on a request for `name`, whose file has just been found to be `now`.
    ///
    /// - Parameter mayRetry: whether a refused file that has changed may be opened again: once for a request.
    mutating func admit(
        _ name: String, _ now: Result<FileIdentity, StoreError>, mayRetry: Bool, at time: UInt64
    ) -> Verdict {
        guard var entry = entries[name] else { return .gone }
        defer { if entries[name] != nil { entries[name] = entry } }
        if case .failure(.io(.noSuchFileOrDirectory, _, _)) = now {
            remove(name)
            return .gone
        }
        let identity = try? now.get()
        switch entry.state {
        case .opening: return .wait
        case .unopened: break
        case .mapped(let version), .preparing(let version, _, _):
            // A file that may not be examined any more is still open here.
            if version.model.damage == nil, identity == nil || identity == version.identity {
                if case .preparing(_, let done, let all) = entry.state {
                    return .fail(.preparing(name, done: done, of: all))
                }
                return .serve(version)
            }
            var file = entry.file
            if let identity { file.identity = identity }
            replace(&entry, file)
        case .refused(let refusal, let tried):
            let isLater = refusal.cause == .unreadable && time > tried &+ Self.patience
            guard mayRetry, isLater || identity != entry.file.identity else {
                return .fail(.refused(name, refusal))
            }
            var file = entry.file
            if let identity { file.identity = identity }
            replace(&entry, file)
        }
        entry.state = .opening
        if entry.memory == .unloaded { entry.memory = .asNeeded }
        toOpen.append(name)
        return .wait
    }

    /// Nanoseconds between two tries of a file that could not be read.
    static let patience: UInt64 = 1_000_000_000

    /// What a request means that names no model.
    enum Choice: Equatable {
        case model(String)
        /// Whether this one can be used must be known first.
        case unclear(String)
        case fail(CatalogError)
    }

    /// The model that is called `name`.
    func choice(_ name: String, isDefault: Bool = false) -> Choice {
        guard entries[name] == nil else { return .model(name) }
        return .fail(
            .unknown(name, isDefault: isDefault, names: names, places: placesExplained))
    }

    /// The model of requests that name none: the setting's; else the only usable one of the first place that has any usable.
    func choice() -> Choice {
        if let defaultModel { return choice(defaultModel, isDefault: true) }
        var refusals: [String: Refusal] = [:]
        for place in places.indices {
            var (usable, unclear): ([String], [String]) = ([], [])
            for (name, entry) in entries where entry.file.place == place {
                switch entry.state {
                case .mapped, .preparing: usable.append(name)
                case .unopened, .opening: unclear.append(name)
                case .refused(let refusal, _): refusals[name] = refusal
                }
            }
            if usable.count > 1 { return .fail(.ambiguous(usable.sorted())) }
            if usable.count + unclear.count == 1 { return .model((usable + unclear)[0]) }
            if let first = unclear.min() { return .unclear(first) }
        }
        return .fail(refusals.isEmpty ? .empty(places: placesExplained) : .noneUsable(refusals))
    }

    /// Whether its turn with the loader is not over.
    func isUnsettled(_ name: String) -> Bool {
        switch entries[name]?.state {
        case .opening, .preparing: true
        case .unopened, .mapped, .refused, nil: false
        }
    }

    // MARK: The loader

    /// The next file to open, and whether its digests are to be compared before it is served.
    mutating func nextToOpen() -> Entry? {
        while !toOpen.isEmpty {
            if let entry = entries[toOpen.removeFirst()] { return entry }
        }
        return nil
    }

    /// Asks for a file to be opened, if nobody has tried yet.
    mutating func want(_ name: String) {
        guard case .unopened? = entries[name]?.state, entries[name]?.memory != .unloaded else {
            return
        }
        entries[name]?.state = .opening
        toOpen.append(name)
    }

    /// Takes what came of opening `tried`.
    ///
    /// - Parameter size: bytes to be read into memory before it is served, or `nil`.
    /// - Returns: whether it still counts. What was opened of a file that has been replaced meanwhile is forgotten.
    mutating func opened(
        _ tried: Entry, _ result: Result<LoadedModel, Refusal>, preparing size: Int?,
        at time: UInt64
    ) -> Bool {
        let name = tried.file.name
        guard var entry = entries[name], case .opening = entry.state else { return false }
        guard entry.file == tried.file else {
            toOpen.append(name)
            return false
        }
        switch result {
        case .success(let version):
            entry.file.identity = version.identity
            entry.isSuspect = false
            entry.lastInfo = nil
            entry.state = size.map { .preparing(version, done: 0, of: $0) } ?? .mapped(version)
        case .failure(let refusal):
            let hidden = skipped.first { $0.reason == "hidden by \(entry.file.path)" }
            let note = hidden.map { "; it hides \($0.path)" } ?? ""
            entry.state = .refused(Refusal(refusal.cause, refusal.reason + note), at: time)
        }
        entries[name] = entry
        return true
    }

    mutating func prepared(_ version: LoadedModel, done: Int, isComplete: Bool) {
        guard case .preparing(let current, _, let all)? = entries[version.name]?.state,
            current === version
        else { return }
        entries[version.name]?.state =
            isComplete ? .mapped(version) : .preparing(version, done: done, of: all)
    }

    /// The bytes of a mapped version are not those its digests tell.
    mutating func condemn(_ version: LoadedModel, _ refusal: Refusal, at time: UInt64) {
        guard let entry = entries[version.name], entry.state.loaded === version else { return }
        retire(entry)
        entries[version.name]?.state = .refused(refusal, at: time)
        entries[version.name]?.isSuspect = true
    }

    // MARK: Memory

    /// What is wanted of a version from now on, and of those that come after it.
    mutating func setMemory(_ memory: Memory, of version: LoadedModel) {
        guard entries[version.name]?.state.loaded === version else { return }
        entries[version.name]?.memory = memory
    }

    /// Lets go of a model until the next request for it.
    mutating func unload(_ name: String) {
        guard var entry = entries[name] else { return }
        entry.memory = .unloaded
        if let version = entry.state.loaded {
            version.model.file.map.dropWhenUnmapped()
            entry.lastInfo = version.info
            retire(entry)
            entry.state = .unopened
        }
        entries[name] = entry
    }
}
