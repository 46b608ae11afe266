// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CKernels
import Engine
import ModelStore

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Compare every tensor of packed files with its digest, and see that every ternary one holds trits.",
        discussion:
            "All files are looked at; the exit status is that of the first that is not sound.")

    @Argument(help: "Packed files.", completion: .file(extensions: ["gguf"])) var files: [String]
    @Flag(help: "One JSON object a file, a line each.") var json = false

    private struct Row: Encodable {
        let file: String
        var tensors: Int?
        var digest, error: String?
    }

    func run() throws {
        Interruption.watch()
        var first: ExitStatus?
        for file in files {
            do {
                let packed = try verify(file)
                let (count, digest) = (packed.tensors.count, packed.modelDigest)
                Terminal.print(
                    json
                        ? try Terminal.json(Row(file: file, tensors: count, digest: digest))
                        : "\(Terminal.harmless(file)): \(count) tensors are as they were written; model \(digest)"
                )
            } catch {
                guard var failure = Failure(error) else { throw error }
                if failure.status == .interrupted { throw failure }
                if !failure.message.contains(file) {
                    failure.message = "\(file): \(failure.message)"
                }
                // One file's problem is the program's.
                if files.count == 1, !json { throw failure }
                first = first ?? failure.status
                if json {
                    Terminal.print(try Terminal.json(Row(file: file, error: failure.message)))
                } else {
                    Terminal.complain(failure.message)
                }
            }
        }
        if let first { throw ExitCode(first.rawValue) }
    }

    private func verify(_ file: String) throws -> PackedFile {
        let packed = try open(file)
        try packed.checkWhole(file)
        return packed
    }
}

extension PackedFile {
    /// Throws if a byte is not what its digest tells, or the file is no model that can be run.
    ///
    /// - Parameter file: what it is called, for messages.
    func checkWhole(_ file: String) throws {
        let progress = ProgressLine()
        try verify { done, total in
            progress.show(done, of: total, file)
            return !Interruption.isWanted
        }
        progress.clear()
        try Interruption.check()
        try checkTrits(file)
        // Both look whether the file has kept still.
        if try metadata.string(forKey: FormatKeys.architecture) == Format.architecture {
            _ = try Model(self)
        } else {
            let attention = try AttentionFile(self)
            _ = try Tokenizer(file: self, vocabulary: attention.shape.vocabulary)
        }
    }

    /// A byte of a ternary matrix holds five trits, which make at most 242; of larger ones every CPU makes something else.
    private func checkTrits(_ file: String) throws {
        for tensor in tensors where packed[tensor.name] != nil {
            let sound = bytes(of: tensor).withMemoryRebound(to: UInt8.self) {
                ck_check_packed($0.baseAddress!, $0.count)
            }
            guard sound == tensor.byteCount else {
                throw Failure(
                    "\(file): tensor \(tensor.name) holds \(bytes(of: tensor)[sound]) at byte \(sound), \(tensor.offset + sound) of the file; "
                        + "five trits make at most 242: the file was not written by `mmfreectl pack`, pack the checkpoint again",
                    .data)
            }
        }
    }
}
