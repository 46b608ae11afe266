// SPDX-License-Identifier: Apache-2.0

/// A condition that did not become true in time.
package struct TookTooLong: Error {}

/// Waits until `condition` is true; at most `limit`, which only a hung test or machine needs.
package func eventually(
    within limit: Duration = .seconds(120), isolation: isolated (any Actor)? = #isolation,
    _ condition: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + limit
    while !(try await condition()) {
        guard ContinuousClock.now < end else { throw TookTooLong() }
        try await Task.sleep(for: .milliseconds(5))
    }
}
