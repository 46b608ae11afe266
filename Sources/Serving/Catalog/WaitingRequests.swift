// SPDX-License-Identifier: Apache-2.0

import RPC

/// What waits for files to be opened or directories to be read. A value; bounded in requests and bytes.
struct WaitingRequests {
    /// The name under which a scan of the directories is waited for; no model is called that.
    static let scan = ""
    static let bytesPerUser = 16 << 20

    enum Outcome {
        case settled, expired, stopping
    }

    struct Request: Sendable {
        let account: Account
        let bytes: Int
        let body: @Sendable (Outcome) -> Void
        fileprivate(set) var names: Set<String>
    }

    let limit: Int
    let perUser: Int
    private var requests: [UInt64: Request] = [:]
    private var last: UInt64 = 0

    init(limit: Int, perUser: Int) {
        self.limit = limit
        self.perUser = perUser
    }

    var count: Int { requests.count }

    /// Has `body` run when all of `names` are settled.
    ///
    /// - Returns: a number to remove it by; `nil` if there are too many.
    mutating func add(
        _ names: Set<String>, account: Account, bytes: Int,
        _ body: @escaping @Sendable (Outcome) -> Void
    ) -> UInt64? {
        let own = requests.values.filter { $0.account == account }
        guard requests.count < limit, own.count < perUser,
            own.isEmpty || own.reduce(bytes, { $0 + $1.bytes }) <= Self.bytesPerUser
        else { return nil }
        last += 1
        requests[last] = Request(account: account, bytes: bytes, body: body, names: names)
        return last
    }

    /// Takes out those that waited for nothing but `name`.
    mutating func settle(_ name: String) -> [Request] {
        var done: [(UInt64, Request)] = []
        for (number, request) in requests where request.names.contains(name) {
            requests[number]?.names.remove(name)
            if request.names.count == 1 { done.append((number, request)) }
        }
        for (number, _) in done { requests[number] = nil }
        return done.sorted { $0.0 < $1.0 }.map(\.1)
    }

    mutating func remove(_ number: UInt64) -> Request? { requests.removeValue(forKey: number) }

    mutating func removeAll() -> [Request] {
        defer { requests = [:] }
        return Array(requests.values)
    }
}
