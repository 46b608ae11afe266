// SPDX-License-Identifier: Apache-2.0

package import NIOCore

/// The ten bytes before every message: length, stream, type, flags, big-endian.
package struct FrameHeader: Sendable, Equatable {
    package static let size = 10
    /// The most bytes of data in a frame.
    package static let dataLimit = 4 << 20

    package enum Kind: UInt8, Sendable {
        case request = 1
        case response = 2
        case data = 3
    }

    package struct Flags: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        /// The sender sends no more on this stream.
        package static let remoteClosed = Flags(rawValue: 1)
        /// The sender will send more on this stream.
        package static let remoteOpen = Flags(rawValue: 2)
        /// There is no message in this frame.
        package static let noData = Flags(rawValue: 4)
    }

    package var length: UInt32
    package var stream: UInt32
    package var kind: Kind
    package var flags: Flags

    package init(length: UInt32, stream: UInt32, kind: Kind, flags: Flags = []) {
        self.length = length
        self.stream = stream
        self.kind = kind
        self.flags = flags
    }
}

package struct Frame: Sendable, Equatable {
    package var header: FrameHeader
    package var data: [UInt8]

    package init(
        stream: UInt32, kind: FrameHeader.Kind, flags: FrameHeader.Flags = [], data: [UInt8]
    ) {
        header = FrameHeader(length: UInt32(data.count), stream: stream, kind: kind, flags: flags)
        self.data = data
    }

    package func write(to buffer: inout ByteBuffer) {
        buffer.reserveCapacity(minimumWritableBytes: FrameHeader.size + data.count)
        buffer.writeInteger(header.length)
        buffer.writeInteger(header.stream)
        buffer.writeInteger(header.kind.rawValue)
        buffer.writeInteger(header.flags.rawValue)
        buffer.writeBytes(data)
    }
}

/// Cuts a byte stream into frames. Holds at most one frame's worth of bytes beyond what it was just given.
package struct FrameDecoder: Sendable {
    package enum Event: Sendable, Equatable {
        case frame(Frame)
        /// A frame with more data than allowed; its data is being skipped and the next frame will be read.
        case oversize(FrameHeader)
    }

    /// The bytes are no frames: nothing after them can be understood.
    package struct Lost: Error, Equatable {
        package let kind: UInt8
    }

    private var buffer = ByteBuffer()
    /// Bytes of memory it takes.
    var held: Int { buffer.storageCapacity }
    private var skipping = 0
    private let limit: Int

    /// Some bytes of a frame are here, and not all of them.
    package var isPartial: Bool { skipping > 0 || buffer.readableBytes > 0 }

    /// The header of the frame that is being read, if it is here and the frame is not oversize. Ask when `next` has given `nil`.
    package var pending: (stream: UInt32, length: Int)? {
        guard skipping == 0,
            let (length, stream) = buffer.getMultipleIntegers(
                at: buffer.readerIndex, as: (UInt32, UInt32).self),
            buffer.readableBytes >= FrameHeader.size
        else { return nil }
        return (stream, Int(length))
    }

    package init(limit: Int = FrameHeader.dataLimit) { self.limit = limit }

    package mutating func append(_ bytes: ByteBuffer) {
        var bytes = bytes
        let skipped = min(skipping, bytes.readableBytes)
        bytes.moveReaderIndex(forwardBy: skipped)
        skipping -= skipped
        if buffer.readableBytes == 0 {
            buffer = bytes
        } else {
            // Only now: after every frame it would move what is left as often as there are frames.
            buffer.discardReadBytes()
            buffer.writeBuffer(&bytes)
        }
    }

    /// The next event, or `nil` when more bytes are needed.
    package mutating func next() throws(Lost) -> Event? {
        guard skipping == 0, buffer.readableBytes >= FrameHeader.size,
            let (length, stream, rawKind, flags) = buffer.getMultipleIntegers(
                at: buffer.readerIndex, as: (UInt32, UInt32, UInt8, UInt8).self)
        else { return nil }
        guard let kind = FrameHeader.Kind(rawValue: rawKind) else { throw Lost(kind: rawKind) }
        let header = FrameHeader(
            length: length, stream: stream, kind: kind, flags: .init(rawValue: flags))
        if length > limit {
            buffer.moveReaderIndex(forwardBy: FrameHeader.size)
            let here = min(Int(length), buffer.readableBytes)
            buffer.moveReaderIndex(forwardBy: here)
            skipping = Int(length) - here
            return .oversize(header)
        }
        guard buffer.readableBytes >= FrameHeader.size + Int(length) else { return nil }
        buffer.moveReaderIndex(forwardBy: FrameHeader.size)
        let data = buffer.readBytes(length: Int(length)) ?? []
        if buffer.readableBytes == 0 { buffer.clear() }
        return .frame(Frame(stream: stream, kind: kind, flags: header.flags, data: data))
    }
}
