// SPDX-License-Identifier: Apache-2.0
//
// Swift values on one side, protobuf-c's structs on the other. Every C pointer lives in an arena that dies before the call
// returns; nothing outside this room sees one.

import CMessages
import CProtobufC

/// A message that goes over the wire by protobuf-c.
package protocol WireMessage: Sendable, Equatable {
    init()
    /// Decodes a payload.
    ///
    /// - Parameter budget: the most bytes the C side may allocate for it.
    init(decoding bytes: some Collection<UInt8>, budget: Int) throws(WireError)
    func encoded() -> [UInt8]
}

extension WireMessage {
    /// What a payload of the largest frame may take to decode: fields are wider in memory than on the wire.
    package static var defaultBudget: Int { 64 << 20 }

    package init(decoding bytes: some Collection<UInt8>) throws(WireError) {
        try self.init(decoding: bytes, budget: Self.defaultBudget)
    }
}

/// Why bytes are not the message they should be.
package enum WireError: Error, Equatable, CustomStringConvertible {
    case malformed(String)
    case notUTF8(String)
    case unknownEnum(String, Int)

    package var description: String {
        switch self {
        case .malformed(let message): "the payload is not a \(message)"
        case .notUTF8(let field): "the field \(field) is not UTF-8"
        case .unknownEnum(let field, let value): "the field \(field) has the unknown value \(value)"
        }
    }
}

/// How a Swift value maps to its C struct.
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
        let contiguous = Array(bytes)
        let prototype = arena.make(Self.self)
        let unpacked = contiguous.withUnsafeBufferPointer { buffer in
            protobuf_c_message_unpack(
                prototype.descriptor, arena.allocator, buffer.count, buffer.baseAddress)
        }
        guard let unpacked else { throw .malformed("\(Self.self)") }
        try read(
            UnsafeMutableRawPointer(unpacked).assumingMemoryBound(to: C.self).pointee)
        withExtendedLifetime(arena) {}
    }

    package func encoded() -> [UInt8] {
        let arena = Arena(budget: .max)
        let message = arena.message(self)
        let base = UnsafeMutableRawPointer(message).assumingMemoryBound(to: ProtobufCMessage.self)
        return [UInt8](unsafeUninitializedCapacity: protobuf_c_message_get_packed_size(base)) {
            buffer, count in
            count = buffer.isEmpty ? 0 : protobuf_c_message_pack(base, buffer.baseAddress)
        }
    }
}

/// Owns every byte a C message under construction, or just unpacked, points at.
final class Arena {
    private let raw: OpaquePointer

    init(budget: Int) {
        guard let raw = mmf_arena_new(budget) else { preconditionFailure("out of memory") }
        self.raw = raw
    }

    deinit { mmf_arena_free(raw) }

    var allocator: UnsafeMutablePointer<ProtobufCAllocator>? { mmf_arena_allocator(raw) }

    private func allocate<T>(_: T.Type, _ count: Int) -> UnsafeMutablePointer<T> {
        guard let memory = mmf_arena_alloc(raw, MemoryLayout<T>.stride * count) else {
            preconditionFailure("out of memory")
        }
        return memory.bindMemory(to: T.self, capacity: count)
    }

    /// A fresh C struct of a message, and its descriptor.
    func make<M: CMessage>(
        _: M.Type
    ) -> (
        pointer: UnsafeMutablePointer<M.C>, descriptor: UnsafePointer<ProtobufCMessageDescriptor>?
    ) {
        let pointer = allocate(M.C.self, 1)
        M.initialise(pointer)
        let base = UnsafeRawPointer(pointer).assumingMemoryBound(to: ProtobufCMessage.self)
        return (pointer, base.pointee.descriptor)
    }

    func message<M: CMessage>(_ value: M) -> UnsafeMutablePointer<M.C> {
        let pointer = make(M.self).pointer
        value.fill(&pointer.pointee, self)
        return pointer
    }

    func optional<M: CMessage>(_ value: M?) -> UnsafeMutablePointer<M.C>? {
        value.map { message($0) }
    }

    func messages<M: CMessage>(
        _ values: [M]
    ) -> UnsafeMutablePointer<UnsafeMutablePointer<M.C>?>? {
        array(values.map { message($0) as UnsafeMutablePointer<M.C>? })
    }

    func array<T>(_ values: [T]) -> UnsafeMutablePointer<T>? {
        guard !values.isEmpty else { return nil }
        let pointer = allocate(T.self, values.count)
        pointer.initialize(from: values, count: values.count)
        return pointer
    }

    func string(_ text: String) -> UnsafeMutablePointer<CChar>? {
        array(Array(text.utf8CString))
    }

    func strings(_ texts: [String]) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? {
        array(texts.map { string($0) })
    }

    func bytes(_ bytes: some Collection<UInt8>) -> ProtobufCBinaryData {
        let bytes = Array(bytes)
        return ProtobufCBinaryData(len: bytes.count, data: array(bytes))
    }
}

/// C values to Swift values.
enum Wire {
    static func text(_ pointer: UnsafeMutablePointer<CChar>?, _ field: String) throws(WireError)
        -> String
    {
        guard let pointer else { return "" }
        guard let text = String(validatingCString: pointer) else { throw .notUTF8(field) }
        return text
    }

    static func text(_ data: ProtobufCBinaryData, _ field: String) throws(WireError) -> String {
        guard let text = String(validating: bytes(data), as: UTF8.self) else {
            throw .notUTF8(field)
        }
        return text
    }

    static func bytes(_ data: ProtobufCBinaryData) -> [UInt8] { values(data.data, data.len) }

    static func values<T>(_ pointer: UnsafeMutablePointer<T>?, _ count: Int) -> [T] {
        Array(UnsafeBufferPointer(start: pointer, count: pointer == nil ? 0 : count))
    }

    static func messages<M: CMessage>(
        _ pointer: UnsafeMutablePointer<UnsafeMutablePointer<M.C>?>?, _ count: Int
    ) throws(WireError) -> [M] {
        var messages: [M] = []
        for element in values(pointer, count) {
            var message = M()
            if let element { try message.read(element.pointee) }
            messages.append(message)
        }
        return messages
    }

    static func message<M: CMessage>(_ pointer: UnsafeMutablePointer<M.C>?) throws(WireError) -> M?
    {
        guard let pointer else { return nil }
        var message = M()
        try message.read(pointer.pointee)
        return message
    }
}

/// An enum whose cases are the wire's values, `unspecified` being 0.
protocol WireEnum: RawRepresentable<Int>, Sendable, Equatable {}

extension WireEnum {
    init(wire value: Int, _ field: String) throws(WireError) {
        guard let known = Self(rawValue: value) else { throw .unknownEnum(field, value) }
        self = known
    }
}
