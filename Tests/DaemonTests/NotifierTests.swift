// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import SystemdSupport

@Suite("What is told to the service manager")
struct NotifierTests {
    /// A manager's socket, abstract or in the file system.
    private func manager(_ path: String) -> Int32 {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var name = Array(path.utf8)
        if path.hasPrefix("@") { name[0] = 0 }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue), 0)
        let length = socklen_t(MemoryLayout<sa_family_t>.size + name.count)
        withUnsafeBytes(of: &address) {
            _ = bind(descriptor, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), length)
        }
        return descriptor
    }

    private func receive(_ descriptor: Int32) -> String? {
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        return count < 0 ? nil : String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    @Test(
        "messages arrive, at an abstract socket and at one with a path", arguments: ["@", "/tmp/"])
    func arrives(place: String) {
        let path = place + "mmfreed-notify-\(getpid())"
        let manager = manager(path)
        defer {
            close(manager)
            unlink(path)
        }
        let notifier = Notifier(path: path)
        #expect(notifier.isActive)
        notifier.ready(status: "s")
        #expect(receive(manager) == "READY=1\nSTATUS=s")
        notifier.watchdog()
        #expect(receive(manager) == "WATCHDOG=1")
    }

    @Test("a status is not waited for when the manager does not read, and is not taken for told")
    func fullManager() {
        let path = "@mmfreed-notify-full-\(getpid())"
        let manager = manager(path)
        defer { close(manager) }
        let notifier = Notifier(path: path)
        let clock = ContinuousClock()
        let start = clock.now
        var sent = 0
        while notifier.status("\(sent)"), sent < 100_000 { sent += 1 }
        #expect(sent < 100_000)
        #expect(!notifier.status("more"))
        while receive(manager) != nil {}
        #expect(notifier.status("again"))
        #expect(receive(manager) == "STATUS=again")
        #expect(clock.now - start < .seconds(60))
    }

    @Test("without a manager nothing happens, and with one that is gone nothing is waited for")
    func nobody() {
        #expect(!Notifier(path: nil).isActive)
        #expect(!Notifier(path: "").isActive)
        let gone = Notifier(path: "@mmfreed-notify-gone-\(getpid())")
        gone.ready()
        #expect(gone.status("s"))
    }
}
