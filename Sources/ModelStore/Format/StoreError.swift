// SPDX-License-Identifier: Apache-2.0

package import SystemPackage

extension String {
    /// The beginning of a text from a file, for a message: 80 scalars, for one character may be as long as the text.
    package var quoted: String {
        unicodeScalars.count > 80 ? String(unicodeScalars.prefix(80)) + "…" : self
    }
}

/// Why a packed file cannot be opened, read or written. Each names the place and the numbers.
package enum StoreError: Error, Equatable, CustomStringConvertible {
    /// A system call failed.
    case io(Errno, doing: String, FilePath)
    /// Not a regular file, or an empty one.
    case notRegular(FilePath)
    /// The file is no GGUF file: what it is instead.
    case notGGUF(String)
    /// A GGUF version or format version this program does not read.
    case unsupportedVersion(String, found: UInt32, expected: UInt32)
    /// A GGUF file that `mmfreectl pack` did not make: how that shows.
    case otherProgram(String)
    /// Something ends after the file does.
    case truncated(String, offset: Int, needs: UInt64, has: Int)
    /// A count, type, offset or value that cannot be right.
    case malformed(String)
    /// A key that must be there is not.
    case missingKey(String)
    /// A key holds another type than it must.
    case wrongType(key: String, expected: String, found: String)
    /// A tensor that the model must have is not in the file.
    case missingTensor(String)
    /// A tensor has another shape or type than the file's own keys promise.
    case wrongTensor(String, expected: String, found: String)
    /// The bytes of a tensor, or of the header, are not those that were written.
    case damaged(String, expected: String, found: String)
    /// The file is not what it was when it was opened.
    case changed(FilePath, FileDamage)
    /// Users other than root and this process's may write the file: why.
    case untrusted(FilePath, String)
    /// The destination exists and may not be replaced.
    case exists(FilePath)
    /// Nothing can be written to this place.
    case destination(FilePath, String)
    /// The file system has no room.
    case noSpace(FilePath, needs: Int, free: Int)

    package var description: String {
        switch self {
        case .io(let errno, let doing, let path):
            "cannot \(doing) \(path): \(errno)"
        case .notRegular(let path):
            "\(path) is not a regular file with something in it"
        case .notGGUF(let found):
            "not a packed model: it is \(found)"
        case .unsupportedVersion(let what, let found, let expected):
            "\(what) is version \(found), this program reads versions up to \(expected)"
        case .otherProgram(let how):
            "a GGUF file made by another program: \(how); make one of the model's checkpoint with `mmfreectl pack`"
        case .truncated(let what, let offset, let needs, let has):
            "\(what) at byte \(offset) needs \(needs) bytes, but only \(has) are left: the file is cut short"
        case .malformed(let what):
            what
        case .missingKey(let key):
            "the key \(key) is missing"
        case .wrongType(let key, let expected, let found):
            "the key \(key) holds \(found), not \(expected)"
        case .missingTensor(let name):
            "tensor \(name) is missing: the file is incomplete, pack the checkpoint again"
        case .wrongTensor(let name, let expected, let found):
            "tensor \(name) is \(found), but the file's own keys ask for \(expected)"
        case .damaged(let what, let expected, let found):
            "\(what) is damaged: its SHA-256 is \(found), it was written as \(expected); copy the file again"
        case .changed(let path, .unreadable):
            "\(path) cannot be read any more: it was cut short while it was in use, or its disk fails"
        case .changed(let path, .written):
            "\(path) was written into while it was in use; replace files by renaming (mv), not by cp"
        case .changed(let path, .corrupt):
            "\(path) does not hold what its digests tell: it is damaged; copy the file again"
        case .untrusted(let path, let reason):
            "\(path) \(reason): make it root's own (chown root, chmod go-w), or set untrusted_models to copy"
        case .exists(let path):
            "\(path) exists already; choose another name, or replace it with --force (-f)"
        case .destination(let path, let why):
            "cannot write to \(path): \(why)"
        case .noSpace(let path, let needs, let free):
            "\(path) needs \(needs) bytes, the file system has \(free) left"
        }
    }
}
