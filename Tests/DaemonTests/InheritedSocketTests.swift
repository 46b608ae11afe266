// SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import SystemdSupport

@Suite struct InheritedSocketTests {
    private func socket(_ kind: __socket_type, _ domain: Int32 = AF_UNIX, listens: Bool) -> Int32 {
        let descriptor = Glibc.socket(domain, Int32(kind.rawValue), 0)
        // A Unix socket gets a name of its own.
        var address = sockaddr()
        address.sa_family = sa_family_t(domain)
        bind(descriptor, &address, socklen_t(MemoryLayout<sa_family_t>.size))
        if listens { listen(descriptor, 1) }
        return descriptor
    }

    @Test(
        "a socket is for calls if its name says so, or it has none",
        arguments: [
            ("api", true), ("", true), ("unknown", true), ("mmfreed.socket", true),
            ("control", false), ("stored", false), ("API", false),
        ])
    func names(name: String, isTaken: Bool) {
        let descriptor = socket(SOCK_STREAM, listens: true)
        var handover = InheritedSocket.Handover()
        handover.take(descriptor, name: name)
        #expect(handover.sockets.map(\.descriptor) == (isTaken ? [descriptor] : []))
        #expect(handover.complaints.count == (isTaken ? 0 : 1))
        #expect(handover.complaints.allSatisfy { $0.contains("'\(name)'") })
        if isTaken { close(descriptor) }
    }

    @Test(
        "a sequential-packet socket is for sharing if its name says so, or it has none",
        arguments: [
            ("share", true), ("", true), ("unknown", true), ("mmfreed-share.socket", true),
            ("api", false), ("shared", false),
        ])
    func sharing(name: String, isTaken: Bool) {
        let descriptor = socket(SOCK_SEQPACKET, listens: true)
        var handover = InheritedSocket.Handover()
        handover.take(descriptor, name: name)
        #expect(
            handover.sockets
                == (isTaken ? [InheritedSocket(descriptor: descriptor, use: .share)] : []))
        #expect(handover.complaints.count == (isTaken ? 0 : 1))
        if isTaken { close(descriptor) }
    }

    @Test("a stream socket called share is closed and named")
    func wrongKind() {
        let descriptor = socket(SOCK_STREAM, listens: true)
        var handover = InheritedSocket.Handover()
        handover.take(descriptor, name: "share")
        #expect(handover.sockets.isEmpty)
        #expect(
            handover.complaints == [
                "inherited descriptor \(descriptor) 'share': not a listening Unix sequential-packet socket"
            ])
    }

    @Test func whatCannotBeListenedOnIsClosedAndNamed() {
        let sound = socket(SOCK_STREAM, listens: true)
        let others = [
            socket(SOCK_DGRAM, listens: false), socket(SOCK_STREAM, listens: false),
            socket(SOCK_STREAM, AF_INET, listens: true), open("/dev/null", O_RDONLY),
        ]
        var handover = InheritedSocket.Handover()
        for descriptor in others + [sound] { handover.take(descriptor, name: "api") }
        #expect(handover.sockets == [InheritedSocket(descriptor: sound, use: .api)])
        #expect(handover.complaints.count == others.count)
        for (descriptor, complaint) in zip(others, handover.complaints) {
            #expect(complaint.hasPrefix("inherited descriptor \(descriptor) 'api': not a"))
        }
        close(sound)
        var pair: [Int32] = [0, 0]
        socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair)
        handover.take(pair[0], name: "api")
        var byte: UInt8 = 0
        #expect(recv(pair[1], &byte, 1, Int32(MSG_DONTWAIT)) == 0)
        close(pair[1])
    }
}
