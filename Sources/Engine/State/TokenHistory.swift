// SPDX-License-Identifier: Apache-2.0

/// Which tokens a state has read, in two numbers: how many, and a digest of them in order. It does not depend on how they were
/// cut into prompts and answers.
package struct TokenHistory: Sendable, Hashable {
    package private(set) var count = 0
    package private(set) var digest: UInt64 = 0

    package init() {}

    package init(count: Int, digest: UInt64) {
        self.count = count
        self.digest = digest
    }

    package init(_ tokens: some Swift.Sequence<UInt32>) { append(tokens) }

    package mutating func append(_ token: UInt32) {
        count += 1
        // The mixing step of xxHash64, over the digest so far.
        let x = digest &+ (UInt64(token) &+ 1) &* 0xC2B2_AE3D_27D4_EB4F
        digest = (x << 31 | x >> 33) &* 0x9E37_79B1_85EB_CA87
    }

    package mutating func append(_ tokens: some Swift.Sequence<UInt32>) {
        for token in tokens { append(token) }
    }
}
