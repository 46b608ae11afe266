// SPDX-License-Identifier: Apache-2.0
//
// Swift values on one side, protobuf-c's structs on the other. Every C pointer lives in an arena that is freed before the call
// returns; nothing outside this folder sees one. Generated/ has the messages, dev/gen-swift-messages the rules.

import CMessages
import CProtobufC

/// A message that goes over the wire, encoded and decoded by protobuf-c.
package protocol WireMessage: Sendable, Equatable {
    init()
    /// Decodes a payload.
    ///
    /// - Parameter budget: the most bytes protobuf-c may allocate for it.
    init(decoding bytes: some Collection<UInt8>, budget: Int) throws(WireError)
    func encoded() -> [UInt8]
}

extension WireMessage {
    /// Decodes a payload of n bytes with at most 16 n + 1 MiB of memory beside the value: fields are wider there than on the wire.
    package init(decoding bytes: some Collection<UInt8>) throws(WireError) {
        try self.init(decoding: bytes, budget: Self.budget(bytes.count))
    }

    static func budget(_ count: Int) -> Int { 16 * count + 1 << 20 }
}

/// Why bytes are not the message they should be.
package enum WireError: Error, Equatable, CustomStringConvertible {
    case malformed(String)
    case notUTF8(String)
    /// A field that cannot hold NUL does.
    case nul(String)
    /// An enum's value that this version does not know, in a request.
    case unknownEnum(String, Int)
    /// A message, and the bytes it may take in memory.
    case tooLarge(String, Int)
    case outOfMemory(String)

    package var description: String {
        switch self {
        case .malformed(let message): "the payload is not a \(message)"
        case .notUTF8(let field): "the field \(field) is not UTF-8"
        case .nul(let field): "the field \(field) contains a NUL byte"
        case .unknownEnum(let field, let value): "the field \(field) has the unknown value \(value)"
        case .tooLarge(let message, let budget):
            "the \(message) takes more than \(budget) bytes in memory"
        case .outOfMemory(let message): "out of memory while decoding the \(message)"
        }
    }
}

/// How a Swift value maps to its C struct. All conformances are generated.
protocol CMessage: WireMessage {
    associatedtype C
    /// The generated `…__init`.
    static var initialise: (UnsafeMutablePointer<C>?) -> Void { get }
    mutating func read(_ c: C) throws(WireError)
    func fill(_ c: inout C, _ arena: Arena)
}

extension CMessage {
    package init(decoding bytes: some Collection<UInt8>, budget: Int) throws(WireError) {
        self.init()
        let arena = Arena(budget: budget)
        defer { withExtendedLifetime(arena) {} }
        let prototype = arena.descriptor(of: Self.self)
        func unpack(_ buffer: UnsafeBufferPointer<UInt8>) -> UnsafeMutablePointer<ProtobufCMessage>?
        {
            protobuf_c_message_unpack(
                prototype, arena.allocator, buffer.count, buffer.baseAddress)
        }
        guard
            let unpacked = bytes.withContiguousStorageIfAvailable(unpack)
                ?? Array(bytes).withUnsafeBufferPointer(unpack)
        else {
            switch arena.failure {
            case MMF_ARENA_OVER_BUDGET: throw .tooLarge("\(Self.self)", budget)
            case MMF_ARENA_NO_MEMORY: throw .outOfMemory("\(Self.self)")
            default: throw .malformed("\(Self.self)")
            }
        }
        try read(UnsafeMutableRawPointer(unpacked).assumingMemoryBound(to: C.self).pointee)
    }

    package func encoded() -> [UInt8] {
        let arena = Arena(budget: .max)
        defer { withExtendedLifetime(arena) {} }
        let base = UnsafeMutableRawPointer(arena.message(self))
            .assumingMemoryBound(to: ProtobufCMessage.self)
        let size = protobuf_c_message_get_packed_size(base)
        guard size > 0 else { return [] }
        return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            count = protobuf_c_message_pack(base, buffer.baseAddress)
        }
    }
}
