// SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
package import SystemPackage

/// Places of packed models. Each `NAME.gguf` in a directory is the model NAME; a place may also be one such file. A name in an
/// earlier place hides the same name in a later one.
package struct ModelDirectory: Sendable, Equatable {
    package let paths: [FilePath]

    package init(_ paths: [FilePath]) { self.paths = paths }

    /// A model's name and the file that has it now.
    package struct Entry: Sendable, Equatable {
        package let name: String
        package let path: FilePath
        /// Which of `ModelDirectory.paths` it was found in.
        package let place: Int
        package var identity: FileIdentity

        package init(name: String, path: FilePath, place: Int, identity: FileIdentity) {
            self.name = name
            self.path = path
            self.place = place
            self.identity = identity
        }
    }

    /// A file that looks like a model and is not served, or a place that cannot be read, and why. Both texts are printable.
    package struct Skipped: Sendable, Hashable {
        package let path: String
        package let reason: String

        init(_ path: FilePath, _ reason: String) {
            self.path = path.string.printable
            self.reason = reason
        }
    }

    /// One look at all places.
    package struct Scan: Sendable, Equatable {
        /// The models, sorted by name.
        package fileprivate(set) var entries: [Entry] = []
        /// At most `skippedLimit`.
        package fileprivate(set) var skipped: [Skipped] = []
        /// The places that could not be read: what was found in them before may still be there.
        package fileprivate(set) var unreadable: [Int: Errno] = [:]
        /// The places as they were when the scan began.
        package fileprivate(set) var stamp = Stamp()

        fileprivate mutating func skip(_ path: FilePath, _ reason: String) {
            if skipped.count < skippedLimit { skipped.append(Skipped(path, reason)) }
        }
    }

    /// When the places last changed. Cheap to take: one stat(2) a place.
    package struct Stamp: Sendable, Equatable {
        /// Inode and change time (nanoseconds since the epoch) of each place; zeros for one that is not there.
        fileprivate var places: [[Int]] = []
        /// A place changed less than 20 ms before: the clock of change times may not tell the next change from that one.
        fileprivate var isFresh = true

        package init() {}
    }

    static let suffix = ".gguf"
    static let entryLimit = 4096
    static let skippedLimit = 100
    static let nameLimit = 200

    /// Looks at every place. Links are followed; nothing is opened but directories. Hidden files and those that do not end in
    /// ".gguf" are no models and not mentioned.
    package func scan() -> Scan {
        var scan = Scan()
        scan.stamp = stamp()
        var found: [String: Entry] = [:]
        for (place, path) in paths.enumerated() {
            do throws(Errno) {
                for file in try Self.files(at: path) {
                    do throws(Rejection) {
                        guard let entry = try Self.entry(file, place) else { continue }
                        if let first = found[entry.name] {
                            throw Rejection("hidden by \(first.path)")
                        }
                        guard found.count < Self.entryLimit else {
                            throw Rejection("more than \(Self.entryLimit) models")
                        }
                        found[entry.name] = entry
                    } catch {
                        scan.skip(file, error.reason)
                    }
                }
            } catch {
                scan.unreadable[place] = error
                scan.skip(path, "cannot read the directory: \(error)")
            }
        }
        scan.entries = found.values.sorted { $0.name < $1.name }
        return scan
    }

    /// Whether a file may have been put into a place, or taken out, since.
    package func hasChanged(since stamp: Stamp) -> Bool {
        stamp.isFresh || self.stamp().places != stamp.places
    }

    private func stamp() -> Stamp {
        var (stamp, now) = (Stamp(), timespec())
        clock_gettime(CLOCK_REALTIME, &now)
        stamp.places = paths.map { path in
            var status = stat()
            guard stat(path.string, &status) == 0 else { return [0, 0] }
            return [Int(truncatingIfNeeded: status.st_ino), status.st_ctim.nanoseconds]
        }
        stamp.isFresh = stamp.places.contains { now.nanoseconds - $0[1] < 20_000_000 }
        return stamp
    }

    /// The files of a directory, or the one file that `path` is.
    private static func files(at path: FilePath) throws(Errno) -> [FilePath] {
        do throws(Errno) {
            return try Directory.names(in: path).filter(isCandidate).map { path.appending($0) }
        } catch {
            guard error == .notDirectory, access(path.string, F_OK) == 0 else { throw error }
            return [path]
        }
    }

    /// It is meant to be a model.
    private static func isCandidate(_ file: String) -> Bool {
        !file.hasPrefix(".") && file.lowercased().hasSuffix(suffix)
    }

    private struct Rejection: Error {
        let reason: String
        init(_ reason: String) { self.reason = reason }
    }

    /// - Returns: `nil` for a file that has gone meanwhile.
    private static func entry(_ path: FilePath, _ place: Int) throws(Rejection) -> Entry? {
        let file = path.lastComponent?.string ?? ""
        guard let name = modelName(file) else {
            throw Rejection(
                file.hasSuffix(suffix)
                    ? "the name of a model is 1 to \(nameLimit) letters, digits, '.', '_' and '-'; rename the file"
                    : "the name must end in \(suffix); rename the file")
        }
        do throws(StoreError) {
            return Entry(
                name: name, path: path, place: place, identity: try FileIdentity(path: path))
        } catch .io(.noSuchFileOrDirectory, _, _) {
            var status = stat()
            guard lstat(path.string, &status) == 0 else { return nil }
            throw Rejection("a symbolic link to a file that is not there, or not visible here")
        } catch .io(let error, _, _) {
            throw Rejection("cannot examine it: \(error)")
        } catch {
            throw Rejection("not a regular file")
        }
    }

    /// The name a file gives its model: letters, digits, '.', '_' and '-', not beginning with a dot; `nil` for other files.
    package static func modelName(_ file: String) -> String? {
        guard file.hasSuffix(suffix) else { return nil }
        let name = file.dropLast(suffix.count)
        let allowed = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "-"):
                true
            default: false
            }
        }
        guard allowed, !name.isEmpty, name.first != ".", name.utf8.count <= nameLimit else {
            return nil
        }
        return String(name)
    }
}

extension String {
    /// The text with '?' for control characters, which would break up a line of a log or a terminal.
    fileprivate var printable: String {
        String(
            String.UnicodeScalarView(
                unicodeScalars.map { $0.properties.generalCategory == .control ? "?" : $0 }))
    }
}
