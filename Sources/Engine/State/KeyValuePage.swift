// SPDX-License-Identifier: Apache-2.0

import CKernels
import Glibc
import ModelStore
import Synchronization

/// What a model with attention keeps of a token, and how it lies in pages.
///
/// A page holds 16 tokens that follow each other, of all layers: for each layer the keys, [keyHeads][headSize][16], and the values,
/// [keyHeads][16][headSize]; bfloat16 keys in pairs of elements, [keyHeads][headSize / 2][16][2].
struct AttentionMemoryShape: Sendable {
    let layers, keyHeads, headSize: Int
    /// Tokens at most.
    let context: Int
    /// Of every number in a page.
    let type: KeyValueType
    /// theta^(−2i/headSize): [headSize / 2]
    private let frequencies: [Float]

    init(
        layers: Int, keyHeads: Int, headSize: Int, context: Int, theta: Float, type: KeyValueType
    ) {
        self.layers = layers
        self.keyHeads = keyHeads
        self.headSize = headSize
        self.context = context
        self.type = type
        // Rounded as transformers does: the exponent, the power and its inverse to float32 each.
        frequencies = (0..<headSize / 2).map { i in
            1 / Float(pow(Double(theta), Double(Float(2 * i) / Float(headSize))))
        }
    }

    static let pageTokens = Int(CK_PAGE_TOKENS)
    static func pages(_ tokens: Int) -> Int { (tokens + pageTokens - 1) / pageTokens }

    var numbersPerToken: Int { layers * 2 * keyHeads * headSize }
    var pageBytes: Int { numbersPerToken * Self.pageTokens * type.byteCount }

    /// Cosines and then sines at a position: [headSize].
    func rotation(of position: Int, into out: UnsafeMutablePointer<Float>) {
        frequencies.withUnsafeBufferPointer {
            ck_rotation($0.baseAddress!, $0.count, position, out, out + headSize / 2)
        }
    }

    /// Visits the numbers of a token, [layers][keys, values][keyHeads][headSize]: where each of them is in its page.
    private func visit(lane: Int, _ body: (_ place: Int) -> Void) {
        for block in 0..<layers * 2 {
            let isKeys = block % 2 == 0
            for head in 0..<keyHeads {
                let first = (block * keyHeads + head) * headSize * Self.pageTokens
                for e in 0..<headSize {
                    body(
                        first
                            + (isKeys
                                ? ck_key_place(type.encoding, e, lane) : lane * headSize + e))
                }
            }
        }
    }

    /// Appends the numbers of a token, in the order of `visit`.
    func read(_ page: KeyValuePage, lane: Int, into values: inout [Float]) {
        switch type {
        case .f32:
            let numbers = page.base.assumingMemoryBound(to: Float.self)
            visit(lane: lane) { values.append(numbers[$0]) }
        case .bf16:
            let numbers = page.base.assumingMemoryBound(to: UInt16.self)
            visit(lane: lane) { values.append(Float(bfloat16: numbers[$0])) }
        }
    }

    /// Writes the numbers of a token, in the order of `visit`.
    func write(_ page: KeyValuePage, lane: Int, _ values: ArraySlice<Float>) {
        var next = values.startIndex
        func take() -> Float {
            defer { next += 1 }
            return values[next]
        }
        switch type {
        case .f32:
            let numbers = page.base.assumingMemoryBound(to: Float.self)
            visit(lane: lane) { numbers[$0] = take() }
        case .bf16:
            let numbers = page.base.assumingMemoryBound(to: UInt16.self)
            visit(lane: lane) { numbers[$0] = ck_bf16(take()) }
        }
    }

    /// Copies the numbers of the first `count` tokens of a page.
    fileprivate func copy(_ count: Int, from: KeyValuePage, to: KeyValuePage) {
        func copy<T>(_: T.Type) {
            let from = from.base.assumingMemoryBound(to: T.self)
            let to = to.base.assumingMemoryBound(to: T.self)
            for lane in 0..<count { visit(lane: lane) { to[$0] = from[$0] } }
        }
        switch type {
        case .f32: copy(Float.self)
        case .bf16: copy(UInt16.self)
        }
    }
}

extension KeyValueType {
    /// As kernels call it.
    var encoding: ck_encoding {
        switch self {
        case .f32: CK_F32
        case .bf16: CK_BF16
        }
    }
}

extension Float {
    /// Exact.
    init(bfloat16 bits: UInt16) { self.init(bitPattern: UInt32(bits) << 16) }
}

/// Keys and values of up to 16 tokens. What is written is never written again: states that begin alike share pages, and only the one
/// that claims the next place goes on in a page; the others copy it.
final class KeyValuePage: @unchecked Sendable {
    let base: UnsafeMutableRawPointer
    /// Places that somebody has claimed.
    private let claimed: Atomic<Int>

    /// - Parameter claimed: places that are filled at once.
    /// - Throws: `noMemory`.
    init(_ shape: AttentionMemoryShape, claimed: Int = 0) throws(ModelError) {
        let bytes = (shape.pageBytes + 63) / 64 * 64
        guard let memory = aligned_alloc(64, bytes) else {
            throw .noMemory(
                bytes, "the keys and values of \(AttentionMemoryShape.pageTokens) tokens")
        }
        let numbers = shape.pageBytes / shape.type.byteCount
        switch shape.type {
        case .f32: memory.bindMemory(to: Float.self, capacity: numbers)
        case .bf16: memory.bindMemory(to: UInt16.self, capacity: numbers)
        }
        base = memory
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
        shape.copy(count, from: self, to: copy)
        return copy
    }
}
