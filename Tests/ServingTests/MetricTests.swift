// SPDX-License-Identifier: Apache-2.0

import CoreMetrics
import Foundation
import TestSupport
import Testing

@testable import RPC
@testable import Serving

@Suite("Metrics", .fewAtOnce, .bounded)
struct MetricTests {
    private static let some: [MetricDefinition] = [
        .init(label: "a.requests", kind: .counter, audience: .account, help: "Requests\\."),
        .init(label: "a.slots", kind: .gauge, audience: .everyone, help: "Slots."),
        .init(
            label: "a.wait", kind: .histogram([0.5, 1, 2.5]), audience: .controllers, help: "Wait."),
    ]

    private func count(_ registry: MetricRegistry, _ labels: [(String, String)], by amount: Int) {
        Counter(label: "a.requests", dimensions: labels, factory: registry).increment(by: amount)
    }

    @Test("what is counted stands in the text as Prometheus wants it")
    func text() throws {
        let registry = MetricRegistry(Self.some)
        count(registry, [("account", "7")], by: 2)
        count(registry, [("account", "7")], by: 1)
        Gauge(label: "a.slots", factory: registry).record(8)
        let wait = Timer(label: "a.wait", factory: registry)
        for seconds in [0.25, 0.5, 2, 60] { wait.recordNanoseconds(Int64(seconds * 1e9)) }
        let text = registry.exposition()
        #expect(
            text == """
                # HELP a_requests_total Requests\\\\.
                # TYPE a_requests_total counter
                a_requests_total{account="7"} 3
                # HELP a_slots Slots.
                # TYPE a_slots gauge
                a_slots 8
                # HELP a_wait_seconds Wait.
                # TYPE a_wait_seconds histogram
                a_wait_seconds_bucket{le="0.5"} 2
                a_wait_seconds_bucket{le="1"} 2
                a_wait_seconds_bucket{le="2.5"} 3
                a_wait_seconds_bucket{le="+Inf"} 4
                a_wait_seconds_sum 62.75
                a_wait_seconds_count 4

                """)
        _ = try Exposition(text)
    }

    @Test("labels hold any text")
    func escapes() throws {
        let registry = MetricRegistry(Self.some)
        let name = "a \"model\"\nwith \\ and é"
        count(registry, [("account", name)], by: 1)
        let read = try Exposition(registry.exposition())
        #expect(read.value("a_requests_total", ["account": name]) == 1)
    }

    @Test("series are bounded: what comes later is \"other\", and the sum stays right")
    func bounded() throws {
        let registry = MetricRegistry(Self.some, limit: 4)
        for account in 0..<100 { count(registry, [("account", "\(account)")], by: account) }
        // One that is known goes on being counted.
        count(registry, [("account", "3")], by: 1000)
        let read = try Exposition(registry.exposition())
        #expect(read.families["a_requests_total"]?.samples.count == 5)
        #expect(read.value("a_requests_total", ["account": "3"]) == 1003)
        #expect(
            read.value("a_requests_total", ["account": "other"]) == Double((4..<100).reduce(0, +)))
    }

    @Test("an account sees its own series and the levels, nobody else's and no sums")
    func audience() throws {
        let registry = MetricRegistry(Self.some)
        count(registry, [("account", "7")], by: 1)
        count(registry, [("account", "8")], by: 1)
        Gauge(label: "a.slots", factory: registry).record(8)
        Timer(label: "a.wait", factory: registry).recordNanoseconds(1)
        let own = try Exposition(registry.exposition(account: "7"))
        #expect(Set(own.families.keys) == ["a_requests_total", "a_slots"])
        #expect(own.families["a_requests_total"]?.samples.map(\.labels) == [["account": "7"]])
        let all = try Exposition(registry.exposition())
        #expect(all.families.count == 3)
    }

    @Test("the largest text there can be fits a frame")
    func size() {
        let registry = MetricRegistry()
        let name = String(repeating: "n", count: 100)
        for definition in MetricDefinition.all {
            for index in 0..<200 {
                let labels = [
                    ("account", "\(4_000_000_000 + index)"), ("gen_ai_request_model", name),
                    ("gen_ai_operation_name", "text_completion"),
                    ("gen_ai_provider_name", "mmfreed"),
                ]
                switch definition.kind {
                case .histogram:
                    Timer(label: definition.label, dimensions: labels, factory: registry)
                        .recordNanoseconds(.max)
                default:
                    Counter(label: definition.label, dimensions: labels, factory: registry)
                        .increment(by: Int64.max)
                }
            }
        }
        #expect(registry.exposition().utf8.count < AnswerSize.limit)
    }

    @Test("a daemon counts requests, tokens, times and refusals of the account they are of")
    func daemon() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, control in
                let prompt = try await inference.tokenize(
                    TokenizeRequest(text: "one", addBOS: true))
                for _ in 0..<3 { _ = try await inference.collect(GenerateRequest("one", count: 5)) }
                var wrong = GenerateRequest("x", count: 1)
                wrong.sampling?.temperature = -1
                #expect(try await refusal { _ = try await inference.collect(wrong) } != nil)
                let read = try Exposition(try await control.metrics())
                let own = ["account": "\(getuid())"]
                #expect(read.sum("mmfreed_requests_total", own) == 3)
                #expect(
                    read.value(
                        "mmfreed_requests_total",
                        ["gen_ai_request_model": "tiny", "outcome": "length"]) == 3)
                #expect(read.sum("mmfreed_completion_tokens_total", own) == 15)
                #expect(
                    read.sum("mmfreed_prompt_tokens_total", own)
                        + read.sum("mmfreed_cached_tokens_total", own)
                        == Double(3 * prompt.tokens.count))
                #expect(
                    read.value("mmfreed_refused_requests_total", ["reason": "INVALID_FIELD"]) == 1)
                for name in [
                    "gen_ai_server_time_to_first_token", "gen_ai_server_time_per_output_token",
                    "gen_ai_server_request_duration", "mmfreed_queue_duration",
                ] {
                    #expect(read.sum("\(name)_seconds_count", own) == 3, "\(name)")
                }
                // A turn for each token, and more where prompts are cut.
                #expect(read.value("mmfreed_turn_duration_seconds_count") ?? 0 >= 15)
                #expect(read.value("mmfreed_slots") == 8)
                #expect(read.value("mmfreed_open_fds") ?? 0 > 3)
                let status = try await control.status()
                #expect(status.privateBytes > 0 && status.privateBytes <= status.residentBytes)
                #expect(status.descriptors > 3)
            }
        }
    }

    @Test("an open request tells how far it is")
    func progress() async throws {
        try await withDaemon { daemon in
            try await daemon.withClient { inference, control in
                let answer = inference.generate(.endless)
                var parts = answer.makeAsyncIterator()
                var tokens = 0
                while tokens < 3, let part = try await parts.next() { tokens += part.tokens.count }
                let request = try #require(try await control.status().requests.first)
                #expect(request.phase == "decode")
                #expect(request.readTokens == request.promptTokens)
                #expect(request.decode > 0 && request.decode < request.age)
                #expect(request.completionTokens >= 3)
            }
        }
    }
}
