// SPDX-License-Identifier: Apache-2.0

/// Whom a request may be addressed to. A web page whose own name has been made to mean this machine (DNS rebinding) sends that name
/// in its Host header, and is refused.
package struct HostList: Sendable {
    private let names: Set<String>

    /// - Parameter names: besides the loopback addresses and localhost; without ports.
    package init(_ names: [String] = []) {
        self.names = Set(names.map { Self.normal($0[...]) })
    }

    /// - Parameter authority: a Host header: a name or an address, and perhaps a port.
    package func allows(_ authority: String) -> Bool {
        guard let name = Self.name(authority) else { return false }
        return Self.isLoopback(name) || names.contains(name)
    }

    /// The name without its port, in lower case; `nil` if it is neither a name nor an address.
    static func name(_ authority: String) -> String? {
        var rest = authority[...]
        let name: Substring
        if rest.first == "[" {
            guard let end = rest.firstIndex(of: "]") else { return nil }
            name = rest[...end]
            rest = rest[rest.index(after: end)...]
        } else {
            name = rest.prefix { $0 != ":" }
            rest = rest[name.endIndex...]
        }
        if !rest.isEmpty {
            guard rest.first == ":", rest.dropFirst().utf8.allSatisfy({ (48...57).contains($0) })
            else { return nil }
        }
        return name.isEmpty ? nil : normal(name)
    }

    private static func normal(_ name: Substring) -> String {
        // A name may end in a dot.
        let name = name.lowercased()
        return name.hasSuffix(".") ? String(name.dropLast()) : name
    }

    private static func isLoopback(_ name: String) -> Bool {
        if name == "localhost" || name == "[::1]" || name.hasSuffix(".localhost") { return true }
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }
}
