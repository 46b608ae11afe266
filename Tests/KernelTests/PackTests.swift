// SPDX-License-Identifier: Apache-2.0

internal import CKernels
internal import Testing

@Test("the scalar table is always there, and first")
func scalarFirst() throws {
    let first = try #require(ck_runnable(0))
    #expect(String(cString: first.pointee.name) == "scalar")
}
