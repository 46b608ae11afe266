// SPDX-License-Identifier: Apache-2.0

package import RPC

/// What a peer may do to others' requests and to the daemon. The socket's permissions have decided already who may talk to it.
package enum Permissions {
    /// Ending a request: its own user, and root.
    package static func mayCancel(_ peer: Peer, ownedBy owner: Peer) -> Bool {
        peer.uid == owner.uid || peer.uid == 0
    }

    /// Changing the daemon: root, the daemon's own user, and whom the administrator has named.
    package static func mayControl(_ peer: Peer, controllers: Set<UInt32>, own: UInt32) -> Bool {
        peer.uid == 0 || peer.uid == own || controllers.contains(peer.uid)
    }
}
