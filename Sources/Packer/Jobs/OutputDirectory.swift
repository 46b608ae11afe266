// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import ModelStore
internal import SystemPackage

/// A directory that appears whole or not at all: filled under a hidden name beside its place (`HiddenName`), then renamed. Given
/// up, it takes its files with it; what a killed process leaves, the next writer removes.
struct OutputDirectory: ~Copyable {
    private let destination: FilePath
    /// Where files are written until `publish`.
    let temporary: FilePath
    /// Holds the lock.
    private let descriptor: CInt
    private var isPublished = false

    /// Refuses a destination that is there and not an empty directory.
    init(_ path: FilePath) throws(PackError) {
        let destination = path.lexicallyNormalized()
        guard let name = destination.lastComponent, name.kind == .regular else {
            throw .store(.destination(path, "give the name of a directory to make"))
        }
        guard try Self.isFree(destination) else {
            throw .destinationExists(destination.string)
        }
        let (temporary, descriptor) = try Self.make(for: destination)
        self.destination = destination
        self.temporary = temporary
        self.descriptor = descriptor
    }

    private static func make(for destination: FilePath) throws(PackError) -> (FilePath, CInt) {
        let parent = destination.removingLastComponent()
        let place = parent.isEmpty ? FilePath(".") : parent
        HiddenName.removeStale(in: place)
        while true {
            let path = place.appending(HiddenName.make())
            guard mkdir(path.string, 0o777) == 0 else {
                throw .store(
                    .destination(
                        destination,
                        "cannot create a directory in \(place): \(Errno(rawValue: errno))"))
            }
            let descriptor = open(path.string, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
            if descriptor >= 0, HiddenName.claim(descriptor, path) { return (path, descriptor) }
            close(descriptor)
        }
    }

    deinit {
        if !isPublished { HiddenName.remove(temporary, isDirectory: true) }
        close(descriptor)
    }

    /// Puts the directory in its place. Fails if something came there meanwhile.
    mutating func publish() throws(PackError) {
        OutputPlace.sync(temporary)
        guard rename(temporary.string, destination.string) == 0 else {
            if errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR {
                throw .destinationExists(destination.string)
            }
            throw .io(Errno(rawValue: errno), doing: "rename \(temporary) to \(destination)")
        }
        isPublished = true
        let parent = destination.removingLastComponent()
        OutputPlace.sync(parent.isEmpty ? "." : parent)
    }

    private static func isFree(_ path: FilePath) throws(PackError) -> Bool {
        var status = stat()
        guard lstat(path.string, &status) == 0 else {
            if errno == ENOENT { return true }
            throw .store(.destination(path, "\(Errno(rawValue: errno))"))
        }
        guard status.st_mode & S_IFMT == S_IFDIR else { return false }
        return (try? Directory.names(in: path))?.isEmpty ?? false
    }
}
