// SPDX-License-Identifier: Apache-2.0

import CKernels
import Glibc
import Synchronization

/// What a model with attention keeps of a token, and how it lies in pages.
///
/// A page holds 16 tokens that follow each other, of all layers: for each layer the keys, [keyHeads][headSize][16], and the values,
/// [keyHeads][16][headSize], float32.
struct AttentionMemoryShape: Sendable {
    let layers, keyHeads, headSize: Int
    /// Tokens at most.
    let context: Int
    /// theta^(−2i/headSize): [headSize / 2]
    private let frequencies: [Float]

    init(layers: Int, keyHeads: Int, headSize: Int, context: Int, theta: Float) {
        self.layers = layers
        self.keyHeads = keyHeads
        self.headSize = headSize
        self.context = context
        // Rounded as transformers does: the exponent, the power and its inverse to float32 each.
        frequencies = (0..<headSize / 2).map { i in
            1 / Float(pow(Double(theta), Double(Float(2 * i) / Float(headSize))))
        }
    }

    static let pageTokens = Int(CK_PAGE_TOKENS)
    static func pages(_ tokens: Int) -> Int { (tokens + pageTokens - 1) / pageTokens }

    var keyWidth: Int { keyHeads * headSize }
    var floatsPerToken: Int { layers * 2 * keyWidth }
    var floatsPerPage: Int { floatsPerToken * Self.pageTokens }

    /// Cosines and then sines at a position: [headSize].
    func rotation(of position: Int, into out: UnsafeMutablePointer<Float>) {
        frequencies.withUnsafeBufferPointer {
            ck_rotation($0.baseAddress!, $0.count, position, out, out + headSize / 2)
        }
    }

    /// Visits the keys, and then the values, of a token: where its floats are in a page, and how far apart; `headSize` at a time.
    func visit(lane: Int, _ body: (_ first: Int, _ stride: Int) -> Void) {
        for block in 0..<layers * 2 {
            let isKeys = block % 2 == 0
            for head in 0..<keyHeads {
                let first = (block * keyHeads + head) * headSize * Self.pageTokens
                if isKeys {
                    body(first + lane, Self.pageTokens)
                } else {
                    body(first + lane * headSize, 1)
                }
            }
        }
    }
}

/// Keys and values of up to 16 tokens. What is written is never written again: states that begin alike share pages, and only the one
/// that claims the next place goes on in a page; the others copy it.
final class KeyValuePage: @unchecked Sendable {
    let base: UnsafeMutablePointer<Float>
    /// Places that somebody has claimed.
    private let claimed: Atomic<Int>

    /// - Parameter claimed: places that are filled at once.
    /// - Throws: `noMemory`.
    init(_ shape: AttentionMemoryShape, claimed: Int = 0) throws(ModelError) {
        let bytes = (shape.floatsPerPage * 4 + 63) / 64 * 64
        guard let memory = aligned_alloc(64, bytes) else {
            throw .noMemory(
                bytes, "the keys and values of \(AttentionMemoryShape.pageTokens) tokens")
        }
        base = memory.bindMemory(to: Float.self, capacity: shape.floatsPerPage)
        self.claimed = Atomic(claimed)
    }

    deinit { free(base) }

    /// Whether place `lane` is the caller's to write, being the next one.
    func claim(_ lane: Int) -> Bool {
        claimed.compareExchange(expected: lane, desired: lane + 1, ordering: .relaxed).exchanged
    }

    /// Another page with the first `count` tokens of this one.
    func copy(_ count: Int, _ shape: AttentionMemoryShape) throws(ModelError) -> KeyValuePage {
        let copy = try KeyValuePage(shape, claimed: count)
        for lane in 0..<count {
            shape.visit(lane: lane) { first, stride in
                for e in 0..<shape.headSize {
                    copy.base[first + e * stride] = base[first + e * stride]
                }
            }
        }
        return copy
    }
}
