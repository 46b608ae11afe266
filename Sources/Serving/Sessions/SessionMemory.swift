// SPDX-License-Identifier: Apache-2.0
//
// Records in a file in memory (memfd) that outlives the process when the service manager keeps a descriptor of it. Its size is
// sealed; pages that hold nothing take no memory.
//
//   page 0         "MMFSMEM1", and the size
//   the table      65,536 entries of 16 bytes: offset and length of a record, or zeros
//   the records    each on pages of its own
//
// A record is written before its entry, and an entry of 16 bytes is written by one call, which a signal does not cut: whenever the
// process ends, every entry leads to a whole record. Records are never written in place. Used under the store's lock.

import CLinux
import Glibc

final class SessionMemory: @unchecked Sendable {
    /// Where a record is.
    struct Place: Sendable, Equatable {
        fileprivate let entry: Int
        fileprivate let pages: Range<Int>
        let length: Int

        /// Bytes of memory that it takes.
        var byteCount: Int { pages.count * SessionMemory.page }
    }

    fileprivate static let page = 4096
    private static let entries = 1 << 16
    private static let entryBytes = 16
    private static let firstPage = 1 + entries * entryBytes / page
    private static let magic = Array("MMFSMEM1".utf8)
    /// F_ADD_SEALS, F_GET_SEALS; F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW of linux/fcntl.h.
    private static let addSeals: Int32 = 1033
    private static let getSeals: Int32 = 1034
    private static let seals: Int32 = 1 | 2 | 4

    let descriptor: Int32
    let size: Int
    private var extents: ExtentMap
    /// Entries that are free; the last is taken first.
    private var freeEntries: [Int]

    /// Bytes of the file for `bytes` of records, while each is there twice.
    static func size(bytes: Int) -> Int { (firstPage + 2 * (bytes / page + 1024)) * page }

    /// A new one, with room for `bytes` of records while each is there twice. `nil` if the system has none.
    init?(bytes: Int) {
        size = Self.size(bytes: bytes)
        descriptor = cl_open_memory("mmfreed-sessions")
        guard descriptor >= 0 else { return nil }
        extents = ExtentMap(pages: Self.firstPage..<size / Self.page)
        freeEntries = (0..<Self.entries).reversed()
        var header = Self.magic
        withUnsafeBytes(of: UInt64(size).littleEndian) { header += $0 }
        guard ftruncate(descriptor, size) == 0, write(header, at: 0),
            fcntl(descriptor, Self.addSeals, Self.seals) == 0
        else { return nil }
    }

    /// Takes over a descriptor of an earlier process. `nil` if that is no such memory.
    init?(adopting descriptor: Int32) {
        self.descriptor = descriptor
        var status = stat()
        var header = [UInt8](repeating: 0, count: 16)
        guard fstat(descriptor, &status) == 0, pread(descriptor, &header, 16, 0) == 16,
            header.starts(with: Self.magic), status.st_size > Self.firstPage * Self.page,
            fcntl(descriptor, Self.getSeals, 0) & Self.seals == Self.seals
        else {
            // `deinit` does not run for what has not been made.
            size = 0
            extents = ExtentMap(pages: 0..<0)
            freeEntries = []
            return nil
        }
        size = Int(status.st_size)
        extents = ExtentMap(pages: Self.firstPage..<size / Self.page)
        freeEntries = (0..<Self.entries).reversed()
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    }

    deinit { if descriptor >= 0 { close(descriptor) } }

    /// Reads every record there is, once, after adopting. What cannot be read is told and given up, and costs nothing else.
    func recover<Record>(
        _ decode: (_ length: Int, _ part: (Range<Int>) -> [UInt8]?) throws(SessionRecord.Damage)
            -> Record
    ) -> (found: [(place: Place, record: Record)], damage: [String]) {
        var table = [UInt8](repeating: 0, count: Self.entries * Self.entryBytes)
        let got = table.withUnsafeMutableBytes {
            pread(descriptor, $0.baseAddress, $0.count, off_t(Self.page))
        }
        guard got == table.count else { return ([], ["the table cannot be read"]) }
        var found: [(place: Place, record: Record)] = []
        var damage: [String] = []
        var taken = Set<Int>()
        for entry in 0..<Self.entries {
            func number(_ index: Int) -> Int {
                table.withUnsafeBytes {
                    Int(truncatingIfNeeded: $0.load(fromByteOffset: index * 8, as: UInt64.self))
                }
            }
            let (offset, length) = (number(entry * 2), number(entry * 2 + 1))
            guard offset != 0 || length != 0 else { continue }
            do throws(SessionRecord.Damage) {
                guard offset % Self.page == 0, length > 0, length <= size, offset >= 0,
                    offset <= size - length
                else { throw .init("entry \(entry) leads to \(length) bytes at \(offset)") }
                let first = offset / Self.page
                let place = Place(
                    entry: entry, pages: first..<first + Self.pages(length), length: length)
                let record = try decode(length) { read(place, $0) }
                // Only what is whole takes its pages.
                guard extents.take(place.pages) else {
                    throw .init("entry \(entry) leads to another's record")
                }
                found.append((place, record))
                taken.insert(entry)
            } catch {
                damage.append("\(error)")
                _ = set(entry, 0, 0)
            }
        }
        freeEntries.removeAll { taken.contains($0) }
        for pages in extents.free { punch(pages) }
        return (found, damage)
    }

    /// Writes a record that comes in parts. `nil` if there is no room or no memory for it, or a part does not come.
    func add(_ length: Int, _ part: (Range<Int>) -> [UInt8]?) -> Place? {
        guard let place = reserve(length) else { return nil }
        for from in stride(from: 0, to: length, by: SessionStore.partBytes) {
            let range = from..<min(length, from + SessionStore.partBytes)
            guard let bytes = part(range),
                bytes.withUnsafeBytes({ write($0, at: from, in: place) })
            else {
                remove(place)
                return nil
            }
        }
        guard publish(place) else {
            remove(place)
            return nil
        }
        return place
    }

    /// A place for a record that is to be written, and that no entry leads to: if the process ends, it is free. It takes no memory
    /// before it is written. `nil` if there is no room.
    func reserve(_ length: Int) -> Place? {
        guard let entry = freeEntries.last, let pages = extents.take(Self.pages(length)) else {
            return nil
        }
        freeEntries.removeLast()
        return Place(entry: entry, pages: pages, length: length)
    }

    /// Writes a part of a record that is not published yet: without the lock, if nobody else can remove the place meanwhile.
    ///
    /// - Returns: false if there is no memory for it.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int, in place: Place) -> Bool {
        precondition(offset >= 0 && bytes.count <= place.length - offset)
        return write(bytes, at: place.pages.lowerBound * Self.page + offset)
    }

    /// The record is whole: it outlives the process from now on.
    func publish(_ place: Place) -> Bool {
        set(place.entry, place.pages.lowerBound * Self.page, place.length)
    }

    /// Some of a record's bytes.
    func read(_ place: Place, _ range: Range<Int>) -> [UInt8]? {
        precondition(range.lowerBound >= 0 && range.upperBound <= place.length)
        let start = place.pages.lowerBound * Self.page + range.lowerBound
        return readBytes(of: descriptor, start..<start + range.count)
    }

    func remove(_ place: Place) {
        guard set(place.entry, 0, 0) else { return }
        freeEntries.append(place.entry)
        release(place.pages)
    }

    private func release(_ pages: Range<Int>) {
        punch(pages)
        extents.give(back: pages)
    }

    private func punch(_ pages: Range<Int>) {
        _ = cl_punch_hole(
            descriptor, off_t(pages.lowerBound * Self.page), off_t(pages.count * Self.page))
    }

    private func set(_ entry: Int, _ offset: Int, _ length: Int) -> Bool {
        var bytes: [UInt8] = []
        for number in [offset, length] {
            withUnsafeBytes(of: UInt64(number).littleEndian) { bytes += $0 }
        }
        return write(bytes, at: Self.page + entry * Self.entryBytes)
    }

    private func write(_ bytes: [UInt8], at offset: Int) -> Bool {
        bytes.withUnsafeBytes { write($0, at: offset) }
    }

    private func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> Bool {
        var done = 0
        while done < bytes.count {
            let put = pwrite(
                descriptor, bytes.baseAddress! + done, bytes.count - done, off_t(offset + done))
            if put < 0, errno == EINTR { continue }
            guard put > 0 else { return false }
            done += put
        }
        return true
    }

    /// What a session takes whose saved state has so many bytes: whole pages, with its names beside the state.
    static func bytes(_ state: Int) -> Int { pages(state + 1024) * page }

    private static func pages(_ bytes: Int) -> Int { (bytes + page - 1) / page }
}

/// Some bytes of a file; `nil` if not all of them can be read.
func readBytes(of descriptor: Int32, _ range: Range<Int>) -> [UInt8]? {
    var isRead = true
    let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
        while count < range.count {
            let got = pread(
                descriptor, buffer.baseAddress! + count, range.count - count,
                off_t(range.lowerBound + count))
            if got < 0, errno == EINTR { continue }
            guard got > 0 else {
                isRead = false
                return
            }
            count += got
        }
    }
    return isRead ? bytes : nil
}
