// SPDX-License-Identifier: Apache-2.0

package import CKernels
import Glibc

/// The kernel table this process computes with, chosen once.
///
/// `MMFREED_KERNELS=name` forces a table; every table gives the same bits, so it changes speed only.
package enum Kernels {
    package typealias Table = UnsafePointer<ck_table>

    /// The environment variable that forces a table by name.
    package static let variable = "MMFREED_KERNELS"

    /// The names of the tables this CPU can run, the reference first and the fastest last.
    package static var runnable: [String] {
        var names: [String] = []
        while let table = ck_runnable(names.count) {
            names.append(String(cString: table.pointee.name))
        }
        return names
    }

    package static func name(of table: Table) -> String { String(cString: table.pointee.name) }

    /// The table called `name`, or the fastest one for `nil` or an empty name.
    package static func select(_ name: String?) throws(ModelError) -> Table {
        guard let name, !name.isEmpty else { return ck_best() }
        guard let table = ck_named(name) else { throw .unknownKernels(name, runnable: runnable) }
        return table
    }

    /// The table the environment asks for.
    package static func fromEnvironment() throws(ModelError) -> Table {
        try select(getenv(variable).map { String(cString: $0) })
    }
}
