// SPDX-License-Identifier: Apache-2.0

package import Testing

/// Whether the tests are compiled as the programs are shipped. dev/check runs them both ways.
#if DEBUG
    package let isOptimised = false
#else
    package let isOptimised = true
#endif

extension Trait where Self == TimeLimitTrait {
    /// Ends a test that hangs: longer than the whole program takes, for tests wait for their turn.
    package static var bounded: Self { .timeLimit(.minutes(30)) }
}

/// Runs at most four tests of such suites at once, in the whole program. Each starts a server with threads of its own; hundreds at
/// once would need more threads and memory than the tests together do.
package struct FewAtOnce: SuiteTrait, TestTrait, TestScoping {
    package let isRecursive = true

    private actor Gate {
        private var free = 4
        private var waiting: [CheckedContinuation<Void, Never>] = []

        func enter() async {
            if free > 0 { free -= 1 } else { await withCheckedContinuation { waiting.append($0) } }
        }

        func leave() {
            if waiting.isEmpty { free += 1 } else { waiting.removeFirst().resume() }
        }
    }
    private static let gate = Gate()

    package func provideScope(
        for test: Test, testCase: Test.Case?, performing body: @Sendable () async throws -> Void
    ) async throws {
        await Self.gate.enter()
        do {
            try await body()
            await Self.gate.leave()
        } catch {
            await Self.gate.leave()
            throw error
        }
    }
}

extension Trait where Self == FewAtOnce {
    package static var fewAtOnce: Self { FewAtOnce() }
}
