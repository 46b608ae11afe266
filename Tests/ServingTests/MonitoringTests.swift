// SPDX-License-Identifier: Apache-2.0

import Foundation
import Testing

@testable import Serving

/// What is shipped for Grafana and Prometheus names metrics that there are.
@Suite("packaging/monitoring")
struct MonitoringTests {
    private static let place = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("packaging/monitoring")

    /// All names that samples of our metrics have.
    private static let names = Set(
        MetricDefinition.all.flatMap { definition in
            if case .histogram = definition.kind {
                ["_bucket", "_sum", "_count"].map { definition.name + $0 }
            } else {
                [definition.name]
            }
        })

    private func mentioned(_ text: String) -> [String] {
        text.matches(of: /\b(?:mmfreed|gen_ai_server)_[a-z_]+\b/).map { String($0.output) }
    }

    @Test("every metric of the dashboard exists, and its panels have queries")
    func dashboard() throws {
        let data = try Data(contentsOf: Self.place.appendingPathComponent("dashboard.json"))
        let dashboard = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        let panels = try #require(dashboard["panels"] as? [[String: Any]])
        #expect(panels.count >= 10)
        for panel in panels {
            let targets = try #require(panel["targets"] as? [[String: Any]])
            for target in targets {
                let names = mentioned(try #require(target["expr"] as? String))
                #expect(!names.isEmpty && Self.names.isSuperset(of: names), "\(target)")
            }
        }
    }

    @Test("every metric of the alerts exists")
    func alerts() throws {
        let text = try String(
            contentsOf: Self.place.appendingPathComponent("alerts.yml"), encoding: .utf8)
        let names = mentioned(text)
        #expect(names.count >= 6)
        #expect(Self.names.isSuperset(of: names), "\(Set(names).subtracting(Self.names))")
    }

    @Test("names are Prometheus': letters, digits and _, units and _total at the end, each once")
    func names() {
        let names = MetricDefinition.all.map(\.name)
        #expect(Set(names).count == names.count)
        for name in names { #expect(name.wholeMatch(of: /[a-z][a-z0-9_]*/) != nil) }
    }
}
