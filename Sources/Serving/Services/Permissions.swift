// SPDX-License-Identifier: Apache-2.0

package import RPC
import Synchronization

/// What a peer may do to others' requests and to the daemon. The socket's permissions have decided already who may talk to it. For
/// whom a gateway speaks has no more rights than any user, even root.
package enum Permissions {
    /// Ending a request: its own user, and root.
    package static func mayCancel(_ peer: Peer, ownedBy owner: Peer) -> Bool {
        peer.uid == owner.uid || peer.isRoot
    }

    /// Using a session: its owner, and root.
    package static func mayUse(_ peer: Peer, sessionOf owner: Account) -> Bool {
        peer.account == owner || peer.isRoot
    }

    /// Seeing a user's requests and totals in the daemon's status: that user, and who may change the daemon.
    package static func maySee(
        _ peer: Peer, ownedBy owner: UInt32, controllers: Set<UInt32>, own: UInt32
    ) -> Bool {
        peer.uid == owner || mayControl(peer, controllers: controllers, own: own)
    }

    /// Changing the daemon: root, the daemon's own user, and whom the administrator has named.
    package static func mayControl(_ peer: Peer, controllers: Set<UInt32>, own: UInt32) -> Bool {
        !peer.isOnBehalf && (peer.uid == 0 || peer.uid == own || controllers.contains(peer.uid))
    }
}

/// Users besides root who may change the daemon; a reload of the settings changes them.
final class Controllers: Sendable {
    private let value: Mutex<Set<UInt32>>

    init(_ users: Set<UInt32>) { value = Mutex(users) }

    var users: Set<UInt32> {
        get { value.withLock { $0 } }
        set { value.withLock { $0 = newValue } }
    }
}
