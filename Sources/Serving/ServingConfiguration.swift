// SPDX-License-Identifier: Apache-2.0

package import ModelStore

/// What an administrator may set of how requests are served.
package struct ServingConfiguration: Sendable {
    /// Sequences computed at once; each takes a recurrent state of 96 to 320 KiB.
    package var slots = 8
    /// Requests that may wait for a slot, of everybody and of one user.
    package var queue = 64
    package var queuePerUser = 32
    /// Requests of one user that are open: waiting, computed or preempted.
    package var requestsPerUser = 64
    /// Prompt tokens of open requests, of everybody and of one user; four bytes each.
    package var openPromptTokens = 32 << 20
    package var openPromptTokensPerUser = 8 << 20
    /// Tokens that one user may have read and written in a minute; 0 for no limit.
    package var tokensPerMinute = 0
    /// How long a user keeps its only slot when another has none. Nanoseconds.
    package var slotTime: UInt64 = 5_000_000_000
    package var maxPromptTokens = 1 << 20
    package var defaultTokens = 256
    package var maxTokens = 1 << 16
    package var maxStops = 16
    package var maxEmbedInputs = 256
    /// Prompt tokens computed in one turn while nobody's answer is being written; more is faster.
    package var prefillChunk = 256
    /// The most time a turn takes while answers are being written. Nanoseconds.
    package var turnTime: UInt64 = 50_000_000
    /// Bytes of states of prompts and answers that are kept because they may come again; 0 keeps none.
    package var prefixBytes = 64 << 20
    /// A state is kept each time so many tokens of a prompt have been read.
    package var prefixInterval = 512
    /// Bytes of keys and values of sequences that are computed or preempted; models with attention set a sequence's share aside
    /// before it begins.
    package var keyValueBytes = 4 << 30
    /// Bytes of sessions' states that are read in one turn of the scheduler, beside others' answers.
    var stateBytesPerTurn = 4 << 20
    /// How they are stored. It changes results.
    package var keyValueType = KeyValueType.f32
    /// Whether accounts share those states. Then each can tell from timing what the others have asked.
    package var sharesPrefixes = false
    /// How long a session that asks for no time lives when it is not used. Nanoseconds.
    package var sessionTime: UInt64 = 7 * 86_400_000_000_000
    /// Where sessions are kept on disk as well; `nil` for nowhere.
    package var sessionDirectory: String?
    /// How long an answer waits for a reader that does not read. Nanoseconds.
    package var slowReaderTimeout: UInt64 = 30_000_000_000
    /// The model of requests that name none; `nil` if there must be only one then.
    package var defaultModel: String?
    /// Worker threads; `nil` asks the affinity mask and the cgroup.
    package var threads: Int?
    /// Keep each worker thread to a processor of its own.
    package var pinsThreads = false
    /// The kernel table's name; `nil` takes the fastest.
    package var kernels: String?
    /// Read a model's file into memory when it is first used.
    package var prefault = false
    package var verification = Verification.background
    /// What becomes of files that users other than root and the daemon's may write.
    package var untrustedFiles = UntrustedFiles.copy
    /// Keep models in memory that may not be paged out.
    package var lockMemory = false
    /// What becomes of a model's pages when no request has used it for so long.
    package var idleMemory = MappedFile.Advice.keep
    package var idleMemoryAfter: UInt64 = 300_000_000_000
    /// Write prompts and answers to the log.
    package var logsText = false
    /// Users besides root who may use control methods that change the daemon.
    package var controllers: Set<UInt32> = []

    package init() {}

    /// Slots for states that are kept in the middle of a batch: of each sequence one where it leaves a known prompt, one before
    /// its last token and one at an interval.
    var tapSlots: Int { prefixBytes > 0 ? 3 * slots : 0 }
}

/// When a model is compared with its digests.
package enum Verification: String, Sendable, CaseIterable {
    /// Once it is mapped, while it is served.
    case background
    /// Before it is served.
    case block
    case skip
}
