// SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import ModelStore
internal import SystemPackage

/// The files of a checkpoint, each seen to be what its name says before it is read.
enum InputFile {
    static func map(_ path: FilePath, _ expected: ForeignFile.Expected) throws(PackError)
        -> MappedFile
    {
        let file: MappedFile
        do { file = try MappedFile(path: path) } catch {
            var status = stat()
            if case .notRegular = error, stat(path.string, &status) == 0 {
                let isEmpty = status.st_mode & S_IFMT == S_IFREG
                throw .malformed(
                    file: path.string,
                    what: isEmpty
                        ? "it is empty: the download did not finish" : "it is not a regular file")
            }
            throw .store(error)
        }
        if let what = file.withBytes({ ForeignFile.describe($0, expected: expected) }) {
            throw .foreign(file: path.string, what: what)
        }
        return file
    }

    /// Reads a small file whole.
    static func read(
        _ path: FilePath, _ expected: ForeignFile.Expected, limit: Int
    ) throws(PackError) -> [UInt8] {
        let file = try map(path, expected)
        guard file.count <= limit else {
            throw .unsupported(
                file: path.string, what: "\(file.count) bytes long; at most \(limit) are read")
        }
        let bytes = file.withBytes { Array($0) }
        try storing { () throws(StoreError) in try file.checkUnchanged() }
        return bytes
    }

    /// Whether there is something of this name, be it a link that leads nowhere.
    static func exists(_ path: FilePath) -> Bool {
        var status = stat()
        return lstat(path.string, &status) == 0
    }
}
