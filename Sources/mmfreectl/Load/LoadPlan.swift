// SPDX-License-Identifier: Apache-2.0

/// The requests of one account's clients, drawn from a seed.
struct LoadPlan {
    struct Request: Equatable {
        let client: Int
        /// Seconds after the start; `nil`: when the client's request before is answered.
        let arrival: Double?
        let prompt: [UInt32]
        let maxTokens: Int
    }

    /// In the order of arrival; without arrivals a client's stand in the order they are made.
    let requests: [Request]

    /// - Parameters:
    ///   - rate: requests a second of all these clients.
    ///   - vocabulary: tokens there are; the first three are special ones and not drawn.
    init(
        clients: Int, requests: Int, rate: Double?, prompts: [Int], outputs: [Int], shared: Int,
        seed: UInt64, vocabulary: Int
    ) {
        var random = Draws(state: seed)
        let tokens = UInt64(max(1, vocabulary - 3))
        func text(_ count: Int, _ random: inout Draws) -> [UInt32] {
            (0..<count).map { _ in UInt32(3 + random.next() % tokens) }
        }
        let prefix = text(shared, &random)
        var now = 0.0
        var drawn: [Request] = []
        for index in 0..<clients * requests {
            var arrival: Double?
            if let rate {
                now += random.exponential(rate)
                arrival = now
            }
            let length = prompts[Int(random.next() % UInt64(prompts.count))]
            drawn.append(
                Request(
                    client: index % clients, arrival: arrival,
                    // At least one token is the request's own.
                    prompt: Array(prefix.prefix(length - 1))
                        + text(max(1, length - prefix.count), &random),
                    maxTokens: outputs[Int(random.next() % UInt64(outputs.count))]))
        }
        self.requests = drawn
    }

    /// SplitMix64.
    struct Draws {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var z = state
            z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
            z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
            return z ^ z >> 31
        }

        /// A gap of a Poisson process of `rate` events a second: exponentially distributed.
        mutating func exponential(_ rate: Double) -> Double {
            // Above 0 and at most 1.
            let uniform = Double((next() >> 11) + 1) / Double(1 << 53)
            return -logarithm(uniform) / rate
        }
    }
}
