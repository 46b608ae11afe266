// SPDX-License-Identifier: Apache-2.0

import Glibc

/// A condition that did not become true in time.
package struct TookTooLong: Error, CustomStringConvertible {
    package let description: String
}

/// Waits until `condition` is true, however slow the machine is; at most `limit`, which only a hung test needs. Holds no thread.
package func eventually(
    within limit: Duration = .seconds(240), isolation: isolated (any Actor)? = #isolation,
    file: String = #fileID, line: Int = #line, _ condition: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + limit
    while !(try await condition()) {
        guard ContinuousClock.now < end else {
            throw TookTooLong(description: "\(file):\(line): not true within \(limit)")
        }
        try await Task.sleep(for: .milliseconds(2))
    }
}

/// As `eventually`, for tests that are not asynchronous: holds the thread.
package func waitUntil(
    file: String = #fileID, line: Int = #line, _ condition: () throws -> Bool
) throws {
    let end = ContinuousClock.now + .seconds(240)
    while !(try condition()) {
        guard ContinuousClock.now < end else {
            throw TookTooLong(description: "\(file):\(line): not true within 240 s")
        }
        usleep(2000)
    }
}
