// SPDX-License-Identifier: Apache-2.0

import RPC
import Serving
import Synchronization
import SystemdSupport

/// What `systemctl status` shows: told when it may have changed, shown at most four times a second, the last change always.
final class StatusText: Sendable {
    private let service: ServingService
    private let notifier: Notifier
    private struct State {
        var shown = ""
        var isDue = false
    }
    private let state = Mutex(State())
    private static let pause: Int64 = 250

    init(_ service: ServingService, _ notifier: Notifier) {
        self.service = service
        self.notifier = notifier
    }

    /// The text now, which the caller shows.
    func take() -> String {
        let text = text
        state.withLock { $0.shown = text }
        return text
    }

    private var text: String {
        let (active, queued) = service.load
        return Self.text(
            models: service.catalog.names, slots: service.slots, active: active, queued: queued)
    }

    static func text(models: [String], slots: Int, active: Int, queued: Int) -> String {
        let served =
            models.isEmpty
            ? "no models"
            : models.count <= 3 ? models.joined(separator: ", ") : "\(models.count) models"
        let work =
            active + queued == 0
            ? "idle, \(slots) slots" : "\(active) of \(slots) slots in use, \(queued) waiting"
        return "Serving \(served): \(work)"
    }

    func changed() {
        guard notifier.isActive else { return }
        let isFirst = state.withLock { state in
            defer { state.isDue = true }
            return !state.isDue
        }
        if isFirst { service.server.after(milliseconds: Self.pause) { [self] in show() } }
    }

    private func show() {
        state.withLock { $0.isDue = false }
        let text = text
        let isNew = state.withLock { state in
            defer { state.shown = text }
            return state.shown != text
        }
        if isNew, !notifier.status(text) {
            // The manager had no room for it. Shown is what was shown before; try again later.
            state.withLock { $0.shown = "" }
            changed()
        }
    }
}
