// SPDX-License-Identifier: Apache-2.0

import CMessages
import CProtobufC

/// Owns every byte that a C message under construction, or one just unpacked, points at.
///
/// Its pointers are valid as long as it is: keep it alive with `withExtendedLifetime`.
final class Arena {
    private let raw: OpaquePointer

    /// - Parameter budget: the most bytes it hands out.
    init(budget: Int) {
        guard let raw = mmf_arena_new(budget) else { preconditionFailure("out of memory") }
        self.raw = raw
    }

    deinit { mmf_arena_free(raw) }

    var allocator: UnsafeMutablePointer<ProtobufCAllocator>? { mmf_arena_allocator(raw) }
    /// Why the last allocation that failed did.
    var failure: mmf_arena_failure { mmf_arena_why(raw) }
    /// Bytes handed out.
    var used: Int { mmf_arena_used(raw) }

    private func allocate<T>(_: T.Type, _ count: Int) -> UnsafeMutablePointer<T> {
        guard let memory = mmf_arena_alloc(raw, MemoryLayout<T>.stride * count) else {
            preconditionFailure("out of memory")
        }
        return memory.bindMemory(to: T.self, capacity: count)
    }

    private func make<M: CMessage>(_: M.Type) -> UnsafeMutablePointer<M.C> {
        let pointer = allocate(M.C.self, 1)
        M.initialise(pointer)
        return pointer
    }

    func descriptor<M: CMessage>(of _: M.Type) -> UnsafePointer<ProtobufCMessageDescriptor>? {
        UnsafeRawPointer(make(M.self)).assumingMemoryBound(to: ProtobufCMessage.self)
            .pointee.descriptor
    }

    func message<M: CMessage>(_ value: M) -> UnsafeMutablePointer<M.C> {
        let pointer = make(M.self)
        value.fill(&pointer.pointee, self)
        return pointer
    }

    func optional<M: CMessage>(_ value: M?) -> UnsafeMutablePointer<M.C>? {
        value.map { message($0) }
    }

    func messages<M: CMessage>(
        _ values: [M]
    ) -> UnsafeMutablePointer<UnsafeMutablePointer<M.C>?>? {
        array(values) { message($0) }
    }

    func array<T>(_ values: [T]) -> UnsafeMutablePointer<T>? {
        guard !values.isEmpty else { return nil }
        let pointer = allocate(T.self, values.count)
        pointer.initialize(from: values, count: values.count)
        return pointer
    }

    private func array<T, C>(_ values: [T], _ convert: (T) -> C) -> UnsafeMutablePointer<C>? {
        guard !values.isEmpty else { return nil }
        let pointer = allocate(C.self, values.count)
        for (index, value) in values.enumerated() {
            (pointer + index).initialize(to: convert(value))
        }
        return pointer
    }

    /// A C string, which ends at its first NUL: one in the text becomes U+FFFD, so that nothing is cut.
    func string(_ text: String) -> UnsafeMutablePointer<CChar>? {
        var text = text.utf8.contains(0) ? text.replacing("\0", with: "\u{FFFD}") : text
        return text.withUTF8 { utf8 in
            let pointer = allocate(CChar.self, utf8.count + 1)
            for (index, byte) in utf8.enumerated() { pointer[index] = CChar(bitPattern: byte) }
            pointer[utf8.count] = 0
            return pointer
        }
    }

    func strings(_ texts: [String]) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? {
        array(texts) { string($0) }
    }

    func bytes(_ bytes: [UInt8]) -> ProtobufCBinaryData {
        ProtobufCBinaryData(len: bytes.count, data: array(bytes))
    }

    func text(_ text: String) -> ProtobufCBinaryData {
        var text = text
        return text.withUTF8 { utf8 in
            guard let source = utf8.baseAddress, !utf8.isEmpty else { return .init() }
            let pointer = allocate(UInt8.self, utf8.count)
            pointer.initialize(from: source, count: utf8.count)
            return ProtobufCBinaryData(len: utf8.count, data: pointer)
        }
    }

    func texts(_ texts: [String]) -> UnsafeMutablePointer<ProtobufCBinaryData>? {
        array(texts) { text($0) }
    }
}

/// C values to Swift values.
enum Wire {
    /// A `string` field of an unpacked message. What other languages' strings can hold and a C string cannot is refused.
    static func text(
        _ pointer: UnsafeMutablePointer<CChar>?, _ field: String
    ) throws(WireError) -> String {
        guard let pointer else { return "" }
        let length = mmf_arena_string_length(pointer)
        let text = try text(
            ProtobufCBinaryData(
                len: length,
                data: UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: UInt8.self)),
            field)
        guard !text.utf8.contains(0) else { throw .nul(field) }
        return text
    }

    /// A `bytes` field that holds text.
    static func text(_ data: ProtobufCBinaryData, _ field: String) throws(WireError) -> String {
        guard let bytes = data.data else { return "" }
        guard
            let text = String(
                validating: UnsafeBufferPointer(start: bytes, count: data.len), as: UTF8.self)
        else { throw .notUTF8(field) }
        return text
    }

    static func texts(
        _ pointer: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?, _ count: Int,
        _ field: String
    ) throws(WireError) -> [String] {
        try list(pointer, count) { element throws(WireError) in try text(element, field) }
    }

    static func texts(
        _ pointer: UnsafeMutablePointer<ProtobufCBinaryData>?, _ count: Int, _ field: String
    ) throws(WireError) -> [String] {
        try list(pointer, count) { element throws(WireError) in try text(element, field) }
    }

    static func bytes(_ data: ProtobufCBinaryData) -> [UInt8] { values(data.data, data.len) }

    static func values<T>(_ pointer: UnsafeMutablePointer<T>?, _ count: Int) -> [T] {
        Array(UnsafeBufferPointer(start: pointer, count: pointer == nil ? 0 : count))
    }

    static func messages<M: CMessage>(
        _ pointer: UnsafeMutablePointer<UnsafeMutablePointer<M.C>?>?, _ count: Int
    ) throws(WireError) -> [M] {
        try list(pointer, count) { element throws(WireError) in try message(element) ?? M() }
    }

    static func message<M: CMessage>(
        _ pointer: UnsafeMutablePointer<M.C>?
    ) throws(WireError) -> M? {
        guard let pointer else { return nil }
        var message = M()
        try message.read(pointer.pointee)
        return message
    }

    /// The case of a closed enum, by its number.
    static func known<E>(
        _ value: some BinaryInteger, _ field: String, _ make: (Int32) -> E?
    ) throws(WireError) -> E {
        let value = Int32(truncatingIfNeeded: value)
        guard let known = make(value) else { throw .unknownEnum(field, Int(value)) }
        return known
    }

    private static func list<C, T>(
        _ pointer: UnsafeMutablePointer<C>?, _ count: Int, _ read: (C) throws(WireError) -> T
    ) throws(WireError) -> [T] {
        guard let pointer else { return [] }
        var list: [T] = []
        list.reserveCapacity(count)
        for index in 0..<count { list.append(try read(pointer[index])) }
        return list
    }
}
