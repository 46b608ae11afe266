// SPDX-License-Identifier: Apache-2.0

import CLinux
import Serving
import Synchronization
import SystemdSupport

/// What `systemctl status` shows; told when it has changed, at most a few times a second.
final class StatusText: Sendable {
    private let service: ServingService
    private let notifier: Notifier
    private struct State {
        var shown = ""
        var last: UInt64 = 0
    }
    private let state = Mutex(State())

    init(_ service: ServingService, _ notifier: Notifier) {
        self.service = service
        self.notifier = notifier
    }

    var text: String {
        let names = service.roster.names
        let models =
            names.isEmpty
            ? "no models"
            : names.count <= 3 ? names.joined(separator: ", ") : "\(names.count) models"
        let (active, queued) = service.load
        let work = active + queued == 0 ? "idle" : "\(active) answering, \(queued) waiting"
        return "Serving \(models): \(work)"
    }

    func changed() {
        guard notifier.isActive else { return }
        let text = text
        let isNew = state.withLock { state in
            let now = cl_monotonic_nanoseconds()
            let isIdle = text.hasSuffix("idle")
            guard text != state.shown, isIdle || now &- state.last > 250_000_000 else {
                return false
            }
            state.shown = text
            state.last = now
            return true
        }
        if isNew { notifier.status(text) }
    }
}
