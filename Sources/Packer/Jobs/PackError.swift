// SPDX-License-Identifier: Apache-2.0

package import ModelStore
package import SystemPackage

/// Why a checkpoint cannot be read, converted or written back. Every case names the file or tensor.
package enum PackError: Error, Equatable {
    /// The world said no: `doing` is a verb with its object, such as "open /x/config.json".
    case io(Errno, doing: String)
    /// The directory holds no checkpoint we can read.
    case noCheckpoint(String, why: String)
    /// The file's bytes are broken or lie about themselves.
    case malformed(file: String, what: String)
    /// The file is not what its name says: what it is instead, and what to do.
    case foreign(file: String, what: String)
    /// The file is well-formed and asks for what we do not do.
    case unsupported(file: String, what: String)
    /// Tensors the architecture needs that the checkpoint lacks.
    case missingTensors([String])
    /// Tensors the checkpoint holds that the architecture has no place for.
    case unexpectedTensors([String])
    /// The same of another architecture, which is named last.
    case foreignTensors([String], String)
    case wrongShape(tensor: String, expected: [Int], found: [Int])
    case wrongType(tensor: String, found: String)
    /// A weight is NaN or infinite. `index`: flat, row-major.
    case notFinite(tensor: String, index: Int, value: String)
    /// Two tensors that must be equal are not, or something else about one tensor cannot be kept.
    case tensor(String, what: String)
    /// The place to write to is taken.
    case destinationExists(String)
    /// The packed file could not be written or read; the store's own words.
    case store(StoreError)
    /// The caller asked to stop. Nothing is left behind.
    case cancelled
}

extension PackError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .io(let errno, let doing):
            "cannot \(doing): \(errno)"
        case .noCheckpoint(let directory, let why):
            "\(directory): no checkpoint here: \(why)"
        case .malformed(let file, let what):
            "\(file) is damaged: \(what)"
        case .foreign(let file, let what):
            "\(file) is not what its name says: it is \(what)"
        case .unsupported(let file, let what):
            "\(file): \(what)"
        case .missingTensors(let names):
            "the checkpoint lacks \(Self.list(names))"
        case .unexpectedTensors(let names):
            "the checkpoint holds \(Self.list(names)), which an HGRNBit model with this "
                + "config.json does not have; is config.json the one that belongs to it?"
        case .foreignTensors(let names, let architecture):
            "the checkpoint holds \(Self.list(names)), which a model of architecture \(architecture) with this config.json does "
                + "not have, and which would change what it computes"
        case .wrongShape(let tensor, let expected, let found):
            "\(tensor) has shape \(found); config.json asks for \(expected)"
        case .wrongType(let tensor, let found):
            "\(tensor) has type \(found.quoted); F32, F16 and BF16 are read"
        case .notFinite(let tensor, let index, let value):
            "\(tensor) is not finite: element \(index) is \(value)"
        case .tensor(let name, let what):
            "\(name): \(what)"
        case .destinationExists(let path):
            "\(path) exists already and is not an empty directory; give another place or remove it"
        case .store(let error):
            error.description
        case .cancelled:
            "cancelled; nothing was written"
        }
    }

    /// "tensor a", or "3 tensors: a, b, c", of which at most ten are named.
    private static func list(_ names: [String]) -> String {
        guard names.count > 1 else { return "tensor \(names.first?.quoted ?? "?")" }
        let shown = names.prefix(10).map(\.quoted).joined(separator: ", ")
        return "\(names.count) tensors: \(shown)\(names.count > 10 ? ", …" : "")"
    }
}
