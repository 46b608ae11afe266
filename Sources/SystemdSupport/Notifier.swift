// SPDX-License-Identifier: Apache-2.0

import CLinux
import CSystemd
import Glibc

/// Tells the service manager how the service is. Outside of a service every call does nothing. See sd_notify(3).
///
/// A manager that does not read is waited for two seconds at most, and for a status not at all.
package final class Notifier: Sendable {
    /// -1 if nobody listens.
    private let socket: Int32
    private let address: sockaddr_un
    private let length: socklen_t

    /// - Parameter path: the manager's socket; a leading @ stands for the NUL of an abstract one.
    package init(path: String? = getenv("NOTIFY_SOCKET").map { String(cString: $0) }) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var name = Array((path ?? "").utf8.prefix(MemoryLayout.size(ofValue: address.sun_path)))
        if name.first == UInt8(ascii: "@") { name[0] = 0 }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
        self.address = address
        length = socklen_t(MemoryLayout<sa_family_t>.size + name.count)
        let kind = Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue)
        socket = name.isEmpty ? -1 : Glibc.socket(AF_UNIX, kind, 0)
        var limit = timeval(tv_sec: 2, tv_usec: 0)
        setsockopt(
            socket, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { if socket >= 0 { close(socket) } }

    /// Whether somebody listens.
    package var isActive: Bool { socket >= 0 }

    /// The service answers; `status` is what `systemctl status` shows.
    package func ready(status: String? = nil) { send("READY=1", status) }

    /// - Returns: false if the manager has no room for it now.
    @discardableResult
    package func status(_ status: String) -> Bool { send(nil, status) }

    /// A reload has begun. It ends with `ready`.
    package func reloading() {
        send("RELOADING=1\nMONOTONIC_USEC=\(cl_monotonic_nanoseconds() / 1000)", nil)
    }

    package func stopping(status: String? = nil) { send("STOPPING=1", status) }

    /// Starting or stopping is still under way and needs up to this much longer, counted from now.
    package func extendTimeout(by duration: Duration) {
        send("EXTEND_TIMEOUT_USEC=\(duration.microseconds)", nil)
    }

    /// Has the manager keep a descriptor over restarts and crashes: it comes back with the sockets, under this name. What it has
    /// under the name is given up first. The unit needs FileDescriptorStoreMax=.
    ///
    /// - Returns: whether it was handed over.
    package func keep(_ descriptor: Int32, name: String) -> Bool {
        guard isActive else { return false }
        send("FDSTOREREMOVE=1\nFDNAME=\(name)", nil)
        return sd_pid_notify_with_fds(0, 0, "FDSTORE=1\nFDNAME=\(name)", [descriptor], 1) > 0
    }

    /// The service lives.
    package func watchdog() { send("WATCHDOG=1", nil) }

    @discardableResult
    private func send(_ state: String?, _ status: String?) -> Bool {
        guard isActive, var text = Self.message(state, status) else { return true }
        let flags = Int32(state == nil ? MSG_NOSIGNAL | MSG_DONTWAIT : MSG_NOSIGNAL)
        let sent = withUnsafeBytes(of: address) { address in
            text.withUTF8 { text in
                sendto(
                    socket, text.baseAddress, text.count, flags,
                    address.baseAddress?.assumingMemoryBound(to: sockaddr.self), length)
            }
        }
        // What another try would not change is not tried again.
        return sent >= 0 || (errno != EAGAIN && errno != ENOBUFS)
    }

    /// Assignments, one a line. A line break in the status would begin another one.
    static func message(_ state: String?, _ status: String?) -> String? {
        var lines: [String] = []
        if let state { lines.append(state) }
        if let status { lines.append("STATUS=" + status.harmless()) }
        return lines.isEmpty ? nil : lines.joined(separator: "\n")
    }
}

/// The time within which the service manager wants a sign of life.
package enum Watchdog {
    /// - Returns: `nil` if the manager does not watch this process.
    package static func interval() -> Duration? {
        var microseconds: UInt64 = 0
        guard sd_watchdog_enabled(0, &microseconds) > 0 else { return nil }
        return .microseconds(Int64(clamping: microseconds))
    }
}

extension Duration {
    /// Whole microseconds, at the type's limit where there are more.
    var microseconds: Int64 {
        let (product, overflow) = components.seconds.multipliedReportingOverflow(by: 1_000_000)
        if overflow { return components.seconds < 0 ? .min : .max }
        let (sum, over) = product.addingReportingOverflow(
            components.attoseconds / 1_000_000_000_000)
        return over ? .max : sum
    }
}
