// SPDX-License-Identifier: Apache-2.0

package import HTTPTypes

/// Which web pages may make requests (CORS). Browsers send their page's origin along; programs send none, and are none of its concern.
package struct OriginList: Sendable {
    private let origins: Set<String>
    private let allowsAll: Bool

    /// - Parameter origins: as browsers write them: "http://localhost:3000", "app://obsidian.md"; "*" for all.
    package init(_ origins: [String] = []) {
        self.origins = Set(origins.map { $0.lowercased() })
        allowsAll = origins.contains("*")
    }

    package func allows(_ origin: String) -> Bool {
        allowsAll || origins.contains(origin.lowercased())
    }

    /// Headers of every answer to a page that is allowed.
    package func fields(_ origin: String) -> [HTTPField] {
        [
            HTTPField(name: .accessControlAllowOrigin, value: origin),
            HTTPField(
                name: .accessControlExposeHeaders,
                value: "x-request-id, retry-after, retry-after-ms, x-should-retry"),
            HTTPField(name: .vary, value: "Origin"),
        ]
    }

    /// The answer to a browser that asks before it makes a request: what it wants to send, it may.
    ///
    /// - Returns: `nil` if that is not what it does.
    package func preflight(_ request: HTTPRequest) -> [HTTPField]? {
        guard request.method == .options,
            let method = request.headerFields[.accessControlRequestMethod]
        else { return nil }
        var fields = [
            HTTPField(name: .accessControlAllowMethods, value: method),
            HTTPField(name: .accessControlMaxAge, value: "600"),
        ]
        if let headers = request.headerFields[.accessControlRequestHeaders] {
            fields.append(HTTPField(name: .accessControlAllowHeaders, value: headers))
        }
        if request.headerFields[.requestPrivateNetwork] == "true" {
            fields.append(HTTPField(name: .allowPrivateNetwork, value: "true"))
        }
        return fields
    }
}

extension HTTPField.Name {
    fileprivate static let requestPrivateNetwork = HTTPField.Name(
        "access-control-request-private-network")!
    fileprivate static let allowPrivateNetwork = HTTPField.Name(
        "access-control-allow-private-network")!
}
