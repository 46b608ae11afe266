// SPDX-License-Identifier: Apache-2.0

import Glibc
import HTTPTypes
import MMFree
import ModelStore
import RPC
import TestSupport
import Testing

@testable import Gateway

@Suite("access")
struct AccessTests {
    @Test(
        "names of this machine are allowed, with and without a port",
        arguments: [
            "localhost", "LOCALHOST:80", "localhost.", "app.localhost:3000", "127.0.0.1",
            "127.1.2.3:8434", "[::1]", "[::1]:8434", "box.example:1", "BOX.EXAMPLE",
        ])
    func allowed(_ host: String) {
        #expect(HostList(["box.example"]).allows(host))
    }

    @Test(
        "every other name is not",
        arguments: [
            "", ":80", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example",
            "evillocalhost", "127.0.0", "127.0.0.256", "[::2]", "[::1", "localhost:80:80",
            "localhost:x", "127.0.0.1@evil.example", "192.168.1.1", "0.0.0.0",
        ])
    func refused(_ host: String) {
        #expect(!HostList(["box.example"]).allows(host))
    }

    @Test("origins are compared as a whole, * is all")
    func origins() {
        let list = OriginList(["http://localhost:3000", "app://obsidian.md"])
        #expect(list.allows("http://localhost:3000"))
        #expect(list.allows("app://obsidian.md"))
        #expect(!list.allows("http://localhost:3001"))
        #expect(!list.allows("http://localhost"))
        #expect(!list.allows("null"))
        #expect(!OriginList().allows("http://localhost"))
        #expect(OriginList(["*"]).allows("null"))
    }

    @Test("a key is one of the file's lines, as a bearer's token")
    func keys() throws {
        let list = try KeyList("# first\n0123456789abcdef\n\n  second-key-of-length  \n")
        #expect(list.allows("Bearer 0123456789abcdef"))
        #expect(list.allows("bearer second-key-of-length"))
        for wrong in [
            nil, "", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdefg",
            "0123456789abcdef", "Basic 0123456789abcdef", "Bearer # first",
        ] { #expect(!list.allows(wrong), "\(wrong ?? "none")") }
    }

    @Test("a file without keys, or with one that can be guessed, is refused")
    func badKeys() {
        #expect(throws: KeyList.Unusable.self) { try KeyList("# nothing\n\n") }
        #expect(throws: KeyList.Unusable.self) { try KeyList("0123456789abcdef\nshort\n") }
    }

    @Test("base64 is RFC 4648's")
    func encoding() {
        let pairs = [
            ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
        ]
        for (plain, coded) in pairs { #expect(base64(Array(plain.utf8)) == coded) }
        #expect(base64([0xFB, 0xFF]) == "+/8=")
    }

    @Test("a float is written with its own digits, not with those of the double nearest to it")
    func floats() {
        for (value, text) in [
            (Float(-1.1), "-1.1"), (-0.1, "-0.1"), (-1e-05, "-1e-05"), (-0.0, "-0.0"),
            (-.infinity, "-9999.0"), (.nan, "-9999.0"),
        ] { #expect(String(decoding: JSON.float(value).writtenCompactly(), as: UTF8.self) == text) }
    }

    @Test("a token that is not whole characters is written by its bytes")
    func tokenNames() {
        #expect(LegacyLogprobs.name(Array("ä".utf8)) == "ä")
        #expect(LegacyLogprobs.name([0xE2, 0x80]) == #"bytes:\xe2\x80"#)
        #expect(LegacyLogprobs.name([0x0A]) == "\n")
        #expect(LegacyLogprobs.name([0xFF, 0x0A]) == #"bytes:\xff\x0a"#)
    }

    @Test("a path's encoding is undone, and what is no name is no path")
    func names() {
        #expect(Route.decoded("a%20b") == "a b")
        #expect(Route.decoded("a%2Fb%c3%a4") == "a/bä")
        for wrong in ["", "%", "%2", "%zz", "%00", "%ff", "a%+1"] {
            #expect(Route.decoded(wrong[...]) == nil, "\(wrong)")
        }
    }
}

@Suite("settings of the gateway")
struct GatewaySettingsTests {
    private func settings(
        _ flags: [String: [String]] = [:], _ environment: [String: String] = [:]
    ) throws -> GatewaySettings {
        try GatewaySettings(flags: flags, environment: environment)
    }

    @Test("flags come before variables")
    func order() throws {
        let both = try settings(
            ["max-body": ["2048"]],
            ["MMFREE_GATEWAY_MAX_BODY": "4096", "MMFREE_GATEWAY_HOSTS": "a.example b.example"])
        #expect(both.gateway.bodyBytes == 2048)
        #expect(both.gateway.hosts.allows("b.example"))
    }

    @Test("a variable that is no setting's is refused by name")
    func stranger() {
        #expect(throws: GatewaySettings.Problem.self) {
            try settings([:], ["MMFREE_GATEWAY_HOST": "a.example"])
        }
    }

    @Test("addresses are loopback's, or paths")
    func addresses() throws {
        let settings = try settings([
            "listen": ["127.0.0.1:1", "localhost:2", "[::1]:3", "unix:/run/x", "/run/y"]
        ])
        #expect(
            settings.listen == [
                .tcp(host: "127.0.0.1", port: 1), .tcp(host: "127.0.0.1", port: 2),
                .tcp(host: "::1", port: 3), .path("/run/x", mode: 0o660),
                .path("/run/y", mode: 0o660),
            ])
    }

    @Test(
        "addresses that others can reach, and what is none, are refused",
        arguments: [
            "0.0.0.0:80", "192.168.1.1:80", "[::]:80", "example.com:80", "127.0.0.1", "127.0.0.1:",
            "127.0.0.1:70000", "unix:relative", ":80",
        ])
    func badAddresses(_ text: String) {
        #expect(throws: GatewaySettings.Problem.self) { try settings(["listen": [text]]) }
    }
}

@Suite("who is calling", .fewAtOnce, .bounded)
struct CallerTests {
    private func end(_ address: [UInt8], _ port: UInt16) -> TCPEnd {
        TCPEnd(address: address, port: port)
    }

    @Test("a line of the kernel's table is read: ends, user, and whether it is in use")
    func rows() throws {
        let line =
            "   1: 0100007F:C350 0100007F:20F2 01 00000000:00000000 00:00000000 00000000  1000        0 34567 1 0000000000000000 20 4 30 10 -1"
        let row = try #require(SocketTable.Row(line[...]))
        #expect(row.local == end(TCPEnd.mapped + [127, 0, 0, 1], 50000))
        #expect(row.remote == end(TCPEnd.mapped + [127, 0, 0, 1], 8434))
        #expect(row.uid == 1000)
        #expect(row.isConnected)
        let six =
            "   0: 00000000000000000000000001000000:C350 00000000000000000000000001000000:20F2 01 00000000:00000000 00:00000000 00000000  33        0 9 1 0000000000000000 20 4 30 10 -1"
        let row6 = try #require(SocketTable.Row(six[...]))
        #expect(row6.local.address == Array(repeating: 0, count: 15) + [1])
        #expect(row6.uid == 33)
        // TIME_WAIT: the table says root, and no inode.
        let gone =
            "   1: 0100007F:C350 0100007F:20F2 06 00000000:00000000 03:00000D4B 00000000     0        0 0 3 0000000000000000"
        #expect(SocketTable.Row(gone[...])?.isConnected == false)
        for wrong in ["", "1: x", "   1: 0100007F:C350 0100007F"] {
            #expect(SocketTable.Row(wrong[...]) == nil)
        }
    }

    @Test("requests on TCP and on a Unix socket are those of the user who made them")
    func ownUser() async throws {
        try await withGateway { rig in
            let tcp = try rig.connectTCP()
            try await tcp.send("GET", "/v1/models")
            #expect(try await tcp.answer().status == 200)
            #expect(try await rig.get("/v1/models").status == 200)
        }
    }

    @Test("nobody is charged for a caller who is not known")
    func unknown() throws {
        var configuration = GatewayConfiguration()
        let gateway = Gateway(configuration)
        #expect(throws: APIError.self) { try gateway.account(Caller(.tcp, uid: nil)) }
        #expect(try gateway.account(Caller(.tcp, uid: getuid())) == nil)
        #expect(try gateway.account(Caller(.tcp, uid: getuid() + 1)) == getuid() + 1)
        configuration.speaksForCallers = false
        #expect(try Gateway(configuration).account(Caller(.tcp, uid: nil)) == nil)
    }

    @Test("users' connections to the daemon are kept, the longest unused dropped first")
    func clients() async throws {
        let clients = Clients { _ in MMFree.Client() }
        for user in 0..<UInt32(Clients.most + 10) { try await clients.with(user) { _ in } }
        #expect(clients.count == Clients.most)
        let first = try await clients.with(7) { $0 }
        #expect(try await clients.with(7) { $0 } === first)
        await clients.close()
    }
}
