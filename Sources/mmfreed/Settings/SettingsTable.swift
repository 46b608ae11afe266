// SPDX-License-Identifier: Apache-2.0

import Logging
import ModelStore
import RPC
import Serving

/// Everything that can be set. It makes the checks, the manual page's list and `--check-config`, and gives `settings.slots`
/// its type.
struct SettingsTable: Sendable {
    let socket = Setting(
        "socket", .socket, "/run/mmfreed/mmfreed.sock",
        "Where to listen, unless the service manager hands over a socket.")
    let socketMode = Setting(
        "socket_mode", .mode, 0o660, "Permissions of a socket the daemon makes itself.")
    let shareSocket = Setting(
        "share_socket", .optionalText, nil,
        "Where to hand out descriptors of models, unless the service manager hands over a socket. Empty: share.sock beside the default of `socket`, and nowhere if `socket` is set."
    )
    let models = Setting(
        "models", .paths, ["/var/lib/mmfreed/models", "/usr/share/mmfreed/models"],
        "Directories of packed models, NAME.gguf each, or such files; an earlier one's name hides a later one's."
    )
    let defaultModel = Setting(
        "default_model", .optionalText, nil, live: true,
        "The model of requests that name none. Without it, the only usable model of the first directory that has any."
    )
    let threads = Setting(
        "threads", .whole(0...1024), 0,
        "Worker threads; 0 takes one for each processor the daemon may use.")
    let pinThreads = Setting(
        "pin_threads", .flag, serving.pinsThreads,
        "Keep each worker thread to a processor of its own. The service needs SystemCallFilter=sched_setaffinity for it."
    )
    let kernels = Setting(
        "kernels", .kernels, nil,
        "Force a kernel table: scalar, avx2, avxvnni, avx512vnni, avx512vbmi, avx512zen5, avx512gfni, avx512amx, neon. All give the same results."
    )
    let slots = Setting(
        "slots", .whole(1...4096), serving.slots, "Sequences computed at once.")
    let queue = Setting(
        "queue", .whole(0...100_000), serving.queue,
        "Requests that may wait for a slot. A user who has none waiting is let in until there are twice as many, so nobody can fill the queue for others."
    )
    let queuePerUser = Setting(
        "queue_per_user", .whole(0...100_000), serving.queuePerUser,
        "Requests of one user that may wait for a slot: protects the others' places in the queue.")
    let requestsPerUser = Setting(
        "requests_per_user", .whole(1...100_000), serving.requestsPerUser,
        "Requests of one user that may be open: waiting, computed, or preempted. Each keeps a state of 96 to 320 KiB once it has begun: protects memory."
    )
    let openPromptTokens = Setting(
        "open_prompt_tokens", .whole(1...(1 << 40)), serving.openPromptTokens,
        "Prompt tokens that all open requests may have together, four bytes each; each user at most half of what the others leave: protects memory."
    )
    let openPromptTokensPerUser = Setting(
        "open_prompt_tokens_per_user", .whole(1...(1 << 40)), serving.openPromptTokensPerUser,
        "Prompt tokens that the open requests of one user may have together.")
    let tokensPerMinutePerUser = Setting(
        "tokens_per_minute_per_user", .whole(0...(1 << 40)), serving.tokensPerMinute,
        "Tokens of prompts and answers that one user may have computed in a minute, a minute's worth at once; a request beyond is refused and told when to come again. 0 is no limit. Protects a machine that is paid for, or warm, from one user's programs."
    )
    let slotTime = Setting(
        "slot_time", .seconds(0.01...1e6), .nanoseconds(Int64(serving.slotTime)),
        "How long a user keeps its only slot when no slot is free and another user has none; then it is preempted, and goes on when its turn comes again. Protects from long answers of as many users as there are slots."
    )
    let defaultTimeout = Setting(
        "default_timeout", .seconds(0.001...1e6), .nanoseconds(Int64(transport.defaultTimeout)),
        "A request's time when it asks for none, waiting included.")
    let maxTimeout = Setting(
        "max_timeout", .seconds(0.001...1e6), .nanoseconds(Int64(transport.maximumTimeout)),
        "The most time a request may ask for.")
    let maxPromptTokens = Setting(
        "max_prompt_tokens", .whole(1...(1 << 30)), serving.maxPromptTokens, "The longest prompt.")
    let defaultTokens = Setting(
        "default_tokens", .whole(1...(1 << 30)), serving.defaultTokens,
        "An answer's length when the request asks for none.")
    let maxTokens = Setting(
        "max_tokens", .whole(1...(1 << 30)), serving.maxTokens, "The longest answer.")
    let prefillChunk = Setting(
        "prefill_chunk", .whole(1...4096), serving.prefillChunk,
        "Prompt tokens computed in one turn while nobody's answer is being written; beside answers turn_time_ms is the limit."
    )
    let turnTimeMs = Setting(
        "turn_time_ms", .whole(1...60_000), Int(serving.turnTime / 1_000_000),
        "The most milliseconds a turn takes while answers are being written: their next tokens, and as much of other requests' prompts, of whatever model, as fits. A quarter of it is always left for prompts. Less makes answers smoother and prompts slower."
    )
    let prefixCache = Setting(
        "prefix_cache", .whole(0...(1 << 20)), serving.prefixBytes >> 20,
        "MiB of states of prompts and answers that are kept because they may come again; a prompt that begins like one of them is read from where it leaves it. 0 keeps none. They count as the daemon's memory, and the account that holds the most gives up its oldest first."
    )
    let keyValueMemory = Setting(
        "key_value_memory", .whole(1...(1 << 20)), serving.keyValueBytes >> 20,
        "MiB of keys and values of the requests that are computed, of models with attention; HGRNBit has none. A request sets aside what its prompt and its longest answer take, and waits until that is free. A token of BitNet 2B4T takes 150 KiB, half of it with key_value_type = \"bf16\"."
    )
    let keyValueType = Setting(
        "key_value_type", .word(), serving.keyValueType,
        "How keys and values are stored: f32 keeps them as they are computed; bf16 rounds each to the nearest bfloat16, which takes half the memory and changes answers. Saved states and sessions with the other type are refused, not converted."
    )
    let prefixInterval = Setting(
        "prefix_interval", .whole(1...(1 << 20)), serving.prefixInterval,
        "A state is kept each time so many tokens of a prompt have been read, besides those at its end and where it leaves a known one."
    )
    let prefixSharing = Setting(
        "prefix_sharing", .flag, serving.sharesPrefixes,
        "Let all users begin with each other's states. Then each can tell from timing what others have asked: for a machine whose users trust each other."
    )
    let sessions = Setting(
        "sessions", .whole(0...1_000_000), transport.bytes.sessions, "Sessions of all users.")
    let sessionsPerUser = Setting(
        "sessions_per_user", .whole(0...1_000_000), transport.bytes.sessionsPerAccount,
        "Sessions of one user, who may also hold no more than half of what the others leave.")
    let sessionMemory = Setting(
        "session_memory", .whole(1...(1 << 20)), transport.bytes.stateBytes >> 20,
        "MiB that all users' sessions may take; each takes 96 to 320 KiB for the published models.")
    let sessionMemoryPerUser = Setting(
        "session_memory_per_user", .whole(1...(1 << 20)),
        transport.bytes.stateBytesPerAccount >> 20,
        "MiB that one user's sessions may take, and no more than half of what the others leave.")
    let sessionTime = Setting(
        "session_time", .seconds(1...1e9), .nanoseconds(Int64(serving.sessionTime)),
        "A session that asks for no other time is dropped when it has not been used for so long.")
    let sessionDirectory = Setting(
        "session_directory", .optionalText, nil,
        "A directory in which sessions are kept as well, so that they are there after a reboot; empty keeps none. The packaged service may write in /var/lib/mmfreed/sessions. The end of a turn is told when it is on disk."
    )
    let prefault = Setting(
        "prefault", .flag, serving.prefault,
        "Read models into memory: all there are before the first request, those that come later when they are first used."
    )
    let lockMemory = Setting(
        "lock_memory", .flag, serving.lockMemory, "Keep models in memory; needs LimitMEMLOCK=.")
    let idleMemory = Setting(
        "idle_memory", .advice, serving.idleMemory,
        "What becomes of a model's pages when no request has used it for idle_memory_after: keep leaves them; cold lets them go first when memory is short; drop gives them up at once, but for those that other processes have mapped."
    )
    let idleMemoryAfter = Setting(
        "idle_memory_after", .seconds(0.001...1e9),
        .nanoseconds(Int64(serving.idleMemoryAfter)), "See idle_memory.")
    let verify = Setting(
        "verify", .verification, serving.verification,
        "When to compare each model with its digests: while it is served, once it is mapped (background); before it is served (block); not at all (skip). Damage that is found makes the model refused."
    )
    let untrustedModels = Setting(
        "untrusted_models", .untrustedFiles, serving.untrustedFiles,
        "What to do with a model whose file belongs to neither root nor the daemon's user, or may be written by group or others: serve a sealed copy of it in memory, which takes as much memory as the file has bytes (copy; all copies together at most half of the machine's memory), or nothing (refuse), or the file itself (allow). Files with fs-verity are always trusted."
    )
    let slowReaderTimeout = Setting(
        "slow_reader_timeout", .seconds(0.001...1e6),
        .nanoseconds(Int64(transport.slowReaderTimeout)),
        "How long an answer waits for a reader that does not read; then it ends, and its connection is closed."
    )
    let maxConnections = Setting(
        "max_connections", .whole(1...65536), transport.connections,
        "Connections that are served at once; those beyond are told so and closed. Root is never told that there are too many."
    )
    let maxConnectionsPerUser = Setting(
        "max_connections_per_user", .whole(1...65536), transport.connectionsPerUser,
        "Connections of one user that are served at once.")
    let requestMemory = Setting(
        "request_memory", .whole(8...(1 << 20)), transport.bytes.requestBytes >> 20,
        "Mebibytes that requests of all users may take from the first byte of their frame to the end of their handler; each user at most half of what the others leave: protects memory from giant and from incomplete frames."
    )
    let requestMemoryPerUser = Setting(
        "request_memory_per_user", .whole(8...(1 << 20)),
        transport.bytes.requestBytesPerAccount >> 20,
        "Mebibytes that requests of one user may take.")
    let answerMemory = Setting(
        "answer_memory", .whole(8...(1 << 20)), transport.bytes.answerBytes >> 20,
        "Mebibytes of answers to all users that are not read yet, beyond which a user's next calls wait; each user at most half of what the others leave: protects memory from slow readers."
    )
    let answerMemoryPerUser = Setting(
        "answer_memory_per_user", .whole(8...(1 << 20)),
        transport.bytes.answerBytesPerAccount >> 20,
        "Mebibytes of answers to one user that are not read yet.")
    let controllers = Setting(
        "controllers", .users, serving.controllers, live: true,
        "Users, by name or number, who may reload the daemon, load and unload models, and see everybody's requests, besides root and the daemon's own user."
    )
    let gatewayUser = Setting(
        "gateway_user", .optionalText, nil,
        "The user, by name or number, whose connections may speak for other users: mmfree-gateway's. Fairness, quotas and status are those users' then. Empty: nobody."
    )
    let idleExit = Setting(
        "idle_exit", .seconds(0...1e9), .zero, live: true,
        "End after this long without an open connection, when a socket unit can start the daemon again; 0 never, and not while there are sessions. Less than 5 counts as 5: systemd gives up on a service that starts too often."
    )
    let drainTimeout = Setting(
        "drain_timeout", .seconds(0...3600), .seconds(20), live: true,
        "How long requests may go on when the daemon is stopped.")
    let logLevel = Setting(
        "log_level", .level, .info, live: true, "The least important messages to log.")
    let logText = Setting(
        "log_text", .flag, serving.logsText, "Write prompts and answers to the log.")

    private static let serving = ServingConfiguration()
    private static let transport = RPCServer.Configuration()

    static let shared = SettingsTable()
    /// In the order in which they stand above.
    static let all = Mirror(reflecting: shared).children.compactMap { $0.value as? any AnySetting }
    private static let byName = Dictionary(uniqueKeysWithValues: all.map { ($0.name, $0) })

    static func named(_ name: String) -> (any AnySetting)? { byName[name] }

    /// The setting that was most likely meant by a name that is none.
    static func nearest(to name: String) -> String? {
        let best = all.map { ($0.name, distance(name, $0.name)) }.min { $0.1 < $1.1 }
        guard let best, best.1 <= max(2, name.count / 3) else { return nil }
        return best.0
    }

    /// Levenshtein's.
    private static func distance(_ a: String, _ b: String) -> Int {
        let (a, b) = (Array(a.utf8.prefix(64)), Array(b.utf8))
        var row = Array(0...b.count)
        for i in a.indices {
            var diagonal = row[0]
            row[0] = i + 1
            for j in b.indices {
                let above = row[j + 1]
                row[j + 1] = min(above + 1, row[j] + 1, diagonal + (a[i] == b[j] ? 0 : 1))
                diagonal = above
            }
        }
        return row[b.count]
    }
}
