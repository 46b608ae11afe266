// SPDX-License-Identifier: Apache-2.0

/// A metric there is: its name, what it counts, and who may see it. All of them stand in `all`.
package struct MetricDefinition: Sendable {
    enum Kind: Sendable, Equatable {
        case counter, gauge
        /// Upper bounds, rising, without +Inf.
        case histogram([Double])

        var name: String {
            switch self {
            case .counter: "counter"
            case .gauge: "gauge"
            case .histogram: "histogram"
            }
        }
    }

    /// Sums over all accounts are for those who may change the daemon: looked at often enough they are a list of requests.
    enum Audience: Sendable {
        case everyone, controllers
        /// Series have the label `account`: the user of that id, and those who may change the daemon.
        case account
    }

    /// With dots, as OpenTelemetry names metrics.
    let label: String
    let kind: Kind
    let audience: Audience
    let help: String

    /// The name in the exposition: times are in seconds, counters are totals.
    package var name: String {
        let base = label.map { $0 == "." ? "_" : $0 }
        return switch kind {
        case .counter: String(base) + "_total"
        case .histogram: String(base) + "_seconds"
        case .gauge: String(base)
        }
    }

    package static let all: [MetricDefinition] = [
        // After OpenTelemetry's semantic conventions for generative AI, with their bounds and finer ones below.
        .init(
            label: "gen_ai.server.request.duration", kind: .histogram(durations),
            audience: .account, help: "Time from the request to its end."),
        .init(
            label: "gen_ai.server.time_to_first_token", kind: .histogram(firstTokens),
            audience: .account, help: "Time from the request to the first token of its answer."),
        .init(
            label: "gen_ai.server.time_per_output_token", kind: .histogram(tokenTimes),
            audience: .account,
            help: "Time per token after the first, the mean of each answer."),
        .init(
            label: "mmfreed.queue.duration", kind: .histogram(firstTokens), audience: .account,
            help: "Time a request waited for its first slot."),
        .init(
            label: "mmfreed.turn.duration", kind: .histogram(tokenTimes), audience: .controllers,
            help: "Time of a turn: one step of everybody's answers, and a part of the prompts."),
        .init(
            label: "mmfreed.requests", kind: .counter, audience: .account,
            help: "Requests that have ended, by how."),
        .init(
            label: "mmfreed.refused.requests", kind: .counter, audience: .account,
            help: "Requests that were refused, by the reason they were told."),
        .init(
            label: "mmfreed.prompt.tokens", kind: .counter, audience: .account,
            help: "Prompt tokens computed."),
        .init(
            label: "mmfreed.cached.tokens", kind: .counter, audience: .account,
            help: "Prompt tokens that were known and not computed again."),
        .init(
            label: "mmfreed.completion.tokens", kind: .counter, audience: .account,
            help: "Tokens written."),
        .init(
            label: "mmfreed.preemptions", kind: .counter, audience: .account,
            help: "Times a sequence gave its slot to another user."),
        .init(
            label: "mmfreed.slots", kind: .gauge, audience: .everyone,
            help: "Sequences that can be computed at once."),
        .init(
            label: "mmfreed.slots.in_use", kind: .gauge, audience: .everyone,
            help: "Slots that are taken."),
        .init(
            label: "mmfreed.queue.length", kind: .gauge, audience: .everyone,
            help: "Requests that wait for their first slot."),
        .init(
            label: "mmfreed.models", kind: .gauge, audience: .everyone, help: "Models served."),
        .init(
            label: "mmfreed.prefix.states", kind: .gauge, audience: .controllers,
            help: "States of prompts and answers that are kept because they may come again."),
        .init(
            label: "mmfreed.prefix.bytes", kind: .gauge, audience: .controllers,
            help: "Bytes of these states."),
        .init(
            label: "mmfreed.prefix.hits", kind: .counter, audience: .controllers,
            help: "Inputs that began with a known prefix."),
        .init(
            label: "mmfreed.prefix.misses", kind: .counter, audience: .controllers,
            help: "Inputs that did not."),
        .init(
            label: "mmfreed.prefix.evictions", kind: .counter, audience: .controllers,
            help: "States that were dropped for room."),
        .init(
            label: "mmfreed.sessions", kind: .gauge, audience: .controllers,
            help: "Sessions there are."),
        .init(
            label: "mmfreed.sessions.bytes", kind: .gauge, audience: .controllers,
            help: "Bytes of their states."),
        .init(
            label: "mmfreed.sessions.turns", kind: .counter, audience: .controllers,
            help: "Turns that ended and left a state."),
        .init(
            label: "mmfreed.sessions.expired", kind: .counter, audience: .controllers,
            help: "Sessions that were dropped when their time to live was over."),
        .init(
            label: "mmfreed.draining", kind: .gauge, audience: .everyone,
            help: "1 while the daemon stops."),
        .init(
            label: "mmfreed.build_info", kind: .gauge, audience: .everyone,
            help: "1, with version and kernel table."),
        // Not the usual process_…: node_exporter, which may read these from a file, has its own of that name.
        .init(
            label: "mmfreed.start_time_seconds", kind: .gauge, audience: .everyone,
            help: "Start of the daemon, seconds since 1970."),
        .init(
            label: "mmfreed.cpu.seconds", kind: .counter, audience: .controllers,
            help: "Processor time used."),
        .init(
            label: "mmfreed.resident_memory_bytes", kind: .gauge, audience: .everyone,
            help: "Resident memory, model pages included."),
        .init(
            label: "mmfreed.private_memory_bytes", kind: .gauge, audience: .everyone,
            help: "Resident memory that is the daemon's own."),
        .init(
            label: "mmfreed.open_fds", kind: .gauge, audience: .everyone,
            help: "Open descriptors."),
    ]

    /// Seconds.
    private static let durations = [
        0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
    ]
    private static let firstTokens = [
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
    ]
    private static let tokenTimes = [
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5,
    ]
}
