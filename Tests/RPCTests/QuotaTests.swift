// SPDX-License-Identifier: Apache-2.0

import Synchronization
import TestSupport
import Testing

@testable import RPC

@Suite("Quotas of accounts")
struct QuotaTests {
    private func account(_ uid: UInt32) -> Account { Account(uid: uid) }

    @Test("each account may hold half of what the others leave, and at most its own limit")
    func shares() {
        var quota = Quota(total: 256, perAccount: 64)
        let held = (1...8).map { uid in
            (0..<300).count { _ in quota.take(1, for: account(uid)) }
        }
        #expect(held == [64, 64, 64, 32, 16, 8, 4, 2])
        #expect(quota.used == held.reduce(0, +))
    }

    @Test("an account that holds nothing gets one item if it fits into what is left")
    func first() {
        var quota = Quota(total: 100, perAccount: 40)
        let taken = [(40, 1), (30, 2), (31, 3), (30, 3), (1, 3)].map {
            quota.take($0.0, for: account($0.1))
        }
        #expect(taken == [true, true, false, true, false])
    }

    @Test("the administrator is never refused, and what is given back is free again")
    func administrator() {
        var quota = Quota(total: 10, perAccount: 5, administrator: account(0))
        let taken = [quota.take(1000, for: account(0)), quota.take(1, for: account(1))]
        #expect(taken == [true, false])
        quota.give(1000, back: account(0))
        #expect(quota.used == 0)
        let again = quota.take(5, for: account(1))
        #expect(again)
    }

    @Test("over any order of taking and giving, nothing is lost and no share is exceeded")
    func property() {
        var random = SeededGenerator(3)
        var quota = Quota(total: 1000, perAccount: 300)
        var held: [(Account, Int)] = []
        for _ in 0..<20_000 {
            if Bool.random(using: &random), !held.isEmpty {
                let (account, amount) = held.remove(
                    at: Int.random(in: 0..<held.count, using: &random))
                quota.give(amount, back: account)
            } else {
                let account = account(UInt32.random(in: 1...9, using: &random))
                let amount = Int.random(in: 1...200, using: &random)
                let first = quota.holds(account) == 0
                guard quota.take(amount, for: account) else { continue }
                held.append((account, amount))
                #expect(quota.used <= 1000)
                #expect(first || quota.holds(account) <= 300)
            }
            #expect(quota.used == held.reduce(0) { $0 + $1.1 })
        }
    }

    @Test("a charge is refunded when it goes, and whoever waits for room gets it in order")
    func waiting() throws {
        var limits = Accounts.Limits()
        limits.requestBytes = 100
        limits.requestBytesPerAccount = 40
        let accounts = Accounts(limits)
        var first: Charge? = try accounts.charge(40, to: account(1))
        let got = Mutex<[String]>([])
        let kept = Mutex<[Charge]>([])
        func wait(_ name: String, _ amount: Int) -> Charge? {
            accounts.charge(amount, to: account(1)) { charge in
                got.withLock { $0.append(name) }
                kept.withLock { $0.append(charge) }
            }
        }
        #expect(wait("a", 30) == nil)
        #expect(wait("b", 30) == nil)
        #expect(throws: RPCError.self) { try accounts.charge(1, to: account(1)) }
        withExtendedLifetime(first) {}
        first = nil
        #expect(got.withLock { $0 } == ["a"])
        let a = kept.withLock { $0.removeFirst() }
        #expect(accounts.requestBytes == 30)
        withExtendedLifetime(a) {}
    }
}

@Suite("The head of a request")
struct RequestHeadTests {
    private func request(_ change: (inout Request) -> Void = { _ in }) -> [UInt8] {
        var request = Request()
        request.service = "s"
        request.method = "m"
        request.payload = [1, 2, 3]
        request.timeoutNano = 7
        change(&request)
        return request.encoded()
    }

    @Test("service, method, timeout and the payload's place are read as protobuf-c wrote them")
    func fields() throws {
        let data = request()
        let head = try RequestHead(data)
        #expect(head.service == "s" && head.method == "m" && head.timeout == 7)
        #expect(data[head.payload] == [1, 2, 3])
        #expect(try RequestHead(request { $0.timeoutNano = -1 }).timeout == -1)
        #expect(try RequestHead([]) == RequestHead(request { $0 = Request() }))
    }

    @Test("unknown fields of every wire type are passed over")
    func unknown() throws {
        let others: [UInt8] = [0x38, 0x85, 0x01, 0x41, 1, 2, 3, 4, 5, 6, 7, 8, 0x4d, 1, 2, 3, 4]
        #expect(try RequestHead(others + request()).method == "m")
    }

    @Test(
        "long names, many fields, much besides the payload and cut bytes are refused in few words")
    func refusals() {
        let entry: [UInt8] = [0x2a, 0]
        let cases: [([UInt8], String)] = [
            (request { $0.service = String(repeating: "x", count: 4_000_000) }, "4000000 bytes"),
            (request { $0.method = String(repeating: "x", count: 129) }, "129 bytes"),
            ((0..<65).flatMap { _ in entry }, "more than 64 fields"),
            ([0x2a, 0x80, 0x80, 1] + [UInt8](repeating: 0, count: 16384), "16388 bytes"),
            ([0x0a, 5, 65], "malformed"), ([0x0a], "malformed"), ([0x0b], "malformed"),
            ([UInt8](repeating: 0xff, count: 11), "malformed"),
            ([0x0a, 1, 0xff], "not UTF-8"),
        ]
        for (data, text) in cases {
            let error = #expect(throws: RPCError.self) { try RequestHead(data) }
            #expect(error?.code == .invalidArgument)
            #expect(error?.message.contains(text) == true, "\(error?.message ?? "")")
            #expect((error?.message.utf8.count ?? 0) < 200)
        }
    }
}
