// SPDX-License-Identifier: Apache-2.0

import Glibc
import ModelStore
import SystemPackage

extension Settings {
    /// What can be used and is hardly meant, for `--check-config`.
    var warnings: [String] {
        var warnings: [String] = []
        if let source = source(of: \.models) {
            warnings += self.models.compactMap { path in
                Self.problem(ofModels: path).map { "\(source): models has '\(path)', which \($0)" }
            }
        }
        if let source = source(of: \.defaultModel), let name = self.defaultModel {
            let names = ModelDirectory(self.models.map { FilePath($0) }).scan().entries.map(\.name)
            if !names.contains(name) {
                warnings.append(
                    "\(source): default_model is '\(name)'; there are: \(names.isEmpty ? "none" : names.joined(separator: ", "))"
                )
            }
        }
        if let source = source(of: \.gatewayUser), let name = self.gatewayUser, gatewayID == nil {
            warnings.append("\(source): gateway_user is '\(name)'; there is no such user")
        }
        return warnings
    }

    private static func problem(ofModels path: String) -> String? {
        var status = stat()
        guard stat(path, &status) == 0 else {
            return errno == ENOENT
                ? "does not exist" : "cannot be read: \(Errno(rawValue: errno))"
        }
        let isDirectory = status.st_mode & S_IFMT == S_IFDIR
        if !isDirectory, !path.hasSuffix(".gguf") {
            return "is neither a directory nor a .gguf file"
        }
        return access(path, isDirectory ? R_OK | X_OK : R_OK) == 0
            ? nil : "cannot be read: \(Errno(rawValue: errno))"
    }
}
