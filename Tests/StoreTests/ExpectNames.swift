// SPDX-License-Identifier: Apache-2.0

import SystemPackage
import TestSupport
import Testing

/// Expects a directory to hold just this, hidden files counted.
func expectNames(_ names: [String], in directory: FilePath) throws {
    #expect(TestSupport.names(in: directory) == names)
}
