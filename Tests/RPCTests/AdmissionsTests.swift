// SPDX-License-Identifier: Apache-2.0

import RPC
import Testing

@Suite("Who is served, who is told of too many, who is closed")
struct AdmissionsTests {
    private func admissions(
        _ connections: Int, perUser: Int, descriptors: Int = 10_000
    ) -> Admissions {
        Admissions(
            connections: connections, perUser: perUser, administrator: Account(uid: 0),
            descriptors: descriptors)
    }

    private enum Kind: Equatable { case served, refused, closed }

    private func enter(_ admissions: inout Admissions, _ user: UInt32) -> Kind {
        switch admissions.enter(Account(uid: user)) {
        case .served: .served
        case .refused: .refused
        case .closed: .closed
        }
    }

    @Test("one user who connects for ever keeps out neither others nor the administrator")
    func oneUser() {
        var admissions = admissions(256, perUser: 64)
        let kinds = (0..<1000).map { _ in enter(&admissions, 7) }
        #expect(kinds[..<64].allSatisfy { $0 == .served })
        #expect(kinds[64..<128].allSatisfy { $0 == .refused })
        #expect(kinds[128...].allSatisfy { $0 == .closed })
        for (user, share) in [(8, 64), (9, 64), (10, 32), (11, 16), (12, 8)] as [(UInt32, Int)] {
            #expect((0..<100).count { _ in enter(&admissions, user) == .served } == share)
        }
        #expect((0..<300).allSatisfy { _ in enter(&admissions, 0) == .served })
    }

    @Test("many users who connect for ever leave the administrator descriptors")
    func manyUsers() {
        var admissions = admissions(4096, perUser: 64, descriptors: 976)
        let open = (1...100_000).count { enter(&admissions, UInt32($0 % 100 + 1)) != .closed }
        #expect((900...(976 - 8)).contains(open))
        #expect(enter(&admissions, 0) == .served)
    }

    @Test("who leaves makes room for one of his kind")
    func leaving() {
        var admissions = admissions(2, perUser: 1)
        let first = admissions.enter(Account(uid: 1))
        let second = admissions.enter(Account(uid: 1))
        #expect(first == .served)
        #expect(enter(&admissions, 1) == .closed)
        admissions.leave(Account(uid: 1), second)
        #expect(enter(&admissions, 1) == .refused)
        admissions.leave(Account(uid: 1), first)
        #expect(enter(&admissions, 1) == .served)
    }

    @Test("a refusal names the limit that is reached, and when to try again")
    func texts() {
        var admissions = admissions(2, perUser: 1)
        _ = admissions.enter(Account(uid: 1))
        let own = admissions.enter(Account(uid: 1))
        _ = admissions.enter(Account(uid: 2))
        let all = admissions.enter(Account(uid: 3))
        for (verdict, text) in [(own, "1 connections of user 1"), (all, "2 connections are open")] {
            guard case .refused(let error) = verdict else {
                Issue.record("\(verdict)")
                continue
            }
            #expect(error.message.hasPrefix(text))
            #expect(error.reason == "TOO_MANY_CONNECTIONS")
            #expect(error.retryAfter == 1_000_000_000)
        }
    }
}
