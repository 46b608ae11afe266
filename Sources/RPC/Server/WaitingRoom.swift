// SPDX-License-Identifier: Apache-2.0

/// The calls that wait for a handler, and how much memory their payloads take: bounded for each user and for all together.
/// Pure arithmetic.
package struct WaitingRoom: Sendable {
    /// Bytes of payloads of one user, and of everybody. One payload always fits.
    package var bytesPerUser = 32 << 20
    package var bytes = 128 << 20

    package private(set) var total = 0
    private var byUser: [UInt32: Int] = [:]

    package init() {}

    /// What a waiting call takes besides its payload.
    private static let overhead = 4096

    /// Lets a call in, or says why not.
    package mutating func enter(_ user: UInt32, payload: Int) throws(RPCError) {
        let size = payload + Self.overhead
        let own = byUser[user, default: 0]
        guard own == 0 || (own + size <= bytesPerUser && total + size <= bytes) else {
            throw RPCError(
                .resourceExhausted,
                "\(own) bytes of user \(user)'s calls and \(total) bytes in all wait to be handled; the limits are \(bytesPerUser) and \(bytes)",
                reason: "TOO_MANY_CALLS"
            ).retrying(after: 100_000_000)
        }
        byUser[user] = own + size
        total += size
    }

    /// The call is being handled, or nobody wants it any more.
    package mutating func leave(_ user: UInt32, payload: Int) {
        let size = payload + Self.overhead
        let own = byUser[user, default: size] - size
        byUser[user] = own > 0 ? own : nil
        total -= size
    }
}
