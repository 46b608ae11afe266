// SPDX-License-Identifier: Apache-2.0

package import ModelStore

/// Why a packed file cannot be run, although its bytes are sound.
package enum ModelError: Error, Equatable, CustomStringConvertible {
    /// `MMFREED_KERNELS` names a table this build or this CPU does not have.
    case unknownKernels(String, runnable: [String])
    /// `MMFREED_TUNING` cannot be read: the part, and what it may be.
    case badTuning(String, String)
    /// The vocabulary in the file cannot be used.
    case badTokenizer(String)
    /// Its weights are so large that what is computed of them overflows.
    case notFinite
    /// The system gives no memory to compute in: bytes, and what for.
    case noMemory(Int, String)
    /// The file is no model of these sizes, or has changed while it was read.
    case store(StoreError)

    package var description: String {
        switch self {
        case .unknownKernels(let name, let runnable):
            "kernels '\(name)' cannot run on this CPU; it can run: \(runnable.joined(separator: ", "))"
        case .badTuning(let part, let why): "\(Tuning.variable) has '\(part)': \(why)"
        case .badTokenizer(let what):
            "the tokenizer in the file is unusable: \(what)"
        case .notFinite:
            "its results are not finite: they overflow; the checkpoint it was packed from is damaged or no model of this kind"
        case .noMemory(let bytes, let purpose):
            "there is no memory for \(purpose): \(bytes) bytes; lower the number of slots, serve fewer models, or raise the process's limit"
        case .store(let error): error.description
        }
    }
}
