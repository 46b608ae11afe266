// SPDX-License-Identifier: Apache-2.0

import Glibc
package import SystemPackage

/// Listing a directory.
package enum Directory {
    /// The names in a directory, sorted, "." and ".." left out.
    package static func names(in directory: FilePath) throws(Errno) -> [String] {
        guard let handle = opendir(directory.string) else { throw Errno(rawValue: errno) }
        defer { closedir(handle) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(handle) else {
                guard errno == 0 else { throw Errno(rawValue: errno) }
                return names.sorted()
            }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
    }
}
