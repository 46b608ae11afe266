// SPDX-License-Identifier: Apache-2.0

/// The journal's message ids; packaging/systemd/mmfreed.catalog explains each.
package enum Event {
    package static let started = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e01"
    package static let draining = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e02"
    package static let stopped = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e03"
    package static let modelMapped = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e04"
    package static let modelRefused = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e05"
    package static let requestFinished = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e06"
    package static let requestRefused = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e07"
    package static let badConfiguration = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e08"
    package static let reloaded = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e09"
    package static let stalled = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e0a"
    package static let bug = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e0b"
    package static let modelShared = "3c1f6c9a5b0e4f0d8a6a1d1f5d0b7e0c"
}
