// SPDX-License-Identifier: Apache-2.0

/// What a request on the share socket is answered with.
package struct SharedFile: Sendable {
    package let response: ShareResponse
    /// Opened for reading; not taken over.
    package let descriptor: Int32
    /// Keeps `descriptor` open until it has been sent.
    package let owner: any Sendable

    package init(_ response: ShareResponse, descriptor: Int32, owner: any Sendable) {
        self.response = response
        self.descriptor = descriptor
        self.owner = owner
    }
}

/// The limits of the share socket's datagrams, in bytes.
package enum ShareDatagram {
    package static let requestLimit = 4096
    package static let answerLimit = 8192
}

/// One datagram that answers a request.
struct ShareAnswer: Sendable {
    let bytes: [UInt8]
    /// -1 for none.
    let descriptor: Int32
    let owner: (any Sendable)?
    /// The connection is closed afterwards.
    let isLast: Bool

    init(_ result: Result<SharedFile, RPCError>, isLast: Bool = false) {
        switch result {
        case .success(let file):
            (bytes, descriptor, owner) = (file.response.encoded(), file.descriptor, file.owner)
        case .failure(let error):
            (bytes, descriptor, owner) = (error.status.encoded(), -1, nil)
        }
        self.isLast = isLast
    }
}
