// SPDX-License-Identifier: Apache-2.0

/// What stands in a file's place when a download, a clone or a copy went wrong, told from its first bytes.
package enum ForeignFile {
    /// What the file was to be.
    package enum Expected: Sendable { case gguf, safetensors, json, sentencePiece }

    private static let magics: [(bytes: [UInt8], what: String)] = [
        (Array("version https://git-lfs".utf8), lfs), (Array("version https://hawser".utf8), lfs),
        (Array("# xet version".utf8), "a Xet pointer, not the file itself: download the file"),
        (
            Array("/annex/objects/".utf8),
            "a git-annex pointer, not the file itself: run `git annex get`"
        ),
        ([0x1f, 0x8b], "compressed by gzip: unpack it with `gunzip`"),
        (
            Array("PK\u{3}\u{4}".utf8),
            "a ZIP archive, which is also what PyTorch's pickles are: \(convert)"
        ),
        (Array("BZh".utf8), "compressed by bzip2: unpack it"),
        ([0xfd, 0x37, 0x7a, 0x58, 0x5a], "compressed by xz: unpack it with `unxz`"),
        ([0x28, 0xb5, 0x2f, 0xfd], "compressed by zstd: unpack it with `unzstd`"),
        ([0x37, 0x7a, 0xbc, 0xaf], "a 7z archive: unpack it"),
        ([0x80, 0x02], "a Python pickle: \(convert)"),
        ([0x80, 0x03], "a Python pickle: \(convert)"),
        ([0x80, 0x04], "a Python pickle: \(convert)"),
        ([0x80, 0x05], "a Python pickle: \(convert)"),
        ([0x89, 0x48, 0x44, 0x46], "an HDF5 file: \(convert)"),
        ([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59], "a NumPy array"),
        (Array("GGUF".utf8), "a GGUF file, which is no part of a checkpoint"),
        (Array("ggml".utf8), old), (Array("lmgg".utf8), old), (Array("tjgg".utf8), old),
        (Array("fmgg".utf8), old), (Array("algg".utf8), old),
        ([0xff, 0xfe], "text in UTF-16: save it as UTF-8"),
        ([0xfe, 0xff], "text in UTF-16: save it as UTF-8"),
    ]
    private static let lfs =
        "a Git LFS pointer, not the file itself: run `git lfs pull`, or download the file"
    private static let convert = "convert it to safetensors where you trust it"
    private static let old = "a file of an old llama.cpp: pack the checkpoint it was made of"

    /// What `bytes` are and what to do, after "it is"; nil if they may be what was expected.
    package static func describe(
        _ bytes: UnsafeRawBufferPointer, expected: Expected
    ) -> String? {
        guard !bytes.isEmpty else { return "empty: the download did not finish" }
        if expected == .gguf, bytes.starts(with: "GGUF".utf8) { return nil }
        if isSafetensors(bytes) {
            return expected == .safetensors
                ? nil
                : "a safetensors file: `mmfreectl pack` makes packed models of whole checkpoints"
        }
        for magic in magics where bytes.starts(with: magic.bytes) {
            return magic.what
        }
        if bytes.prefix(4096).allSatisfy({ $0 == 0 }) {
            return "nothing but zeros at its beginning: the download did not finish"
        }
        if let text = text(bytes) {
            let start = text.prefix(256).lowercased()
            if start.hasPrefix("<!doctype html") || start.hasPrefix("<html")
                || start.hasPrefix("<head") || start.hasPrefix("<?xml") || start.hasPrefix("<!--")
                || start.hasPrefix("<error")
            {
                return "a web page (HTML or XML), not the file: the download got an answer such as "
                    + "a sign-in page; download it again"
            }
            if expected == .gguf {
                // Nothing of what is in it: a daemon tells this to users who may not read the file.
                return "a text, perhaps a message in place of the file: download it again"
            }
            if expected != .json, bytes.count <= 1 << 16, !text.contains("\u{0}") {
                let line = text.prefix { $0 != "\n" && $0 != "\r\n" }
                return "a text that begins \"\(String(line).quoted)\": a message in place of the "
                    + "file? Download it again"
            }
        }
        return nil
    }

    /// A header's length below 4 GiB, then the header's JSON.
    private static func isSafetensors(_ bytes: UnsafeRawBufferPointer) -> Bool {
        bytes.count > 8 && bytes[4..<8].allSatisfy { $0 == 0 } && bytes[8] == UInt8(ascii: "{")
    }

    /// The beginning as text, white space and a byte order mark left out; nil if it is none.
    private static func text(_ bytes: UnsafeRawBufferPointer) -> String? {
        var start = bytes.starts(with: [0xef, 0xbb, 0xbf]) ? bytes.dropFirst(3) : bytes[...]
        start = start.drop { [0x20, 0x09, 0x0a, 0x0d].contains($0) }.prefix(512)
        guard !start.contains(where: { $0 < 0x20 && ![0x09, 0x0a, 0x0d].contains($0) }) else {
            return nil
        }
        return start.isEmpty ? nil : String(decoding: start, as: UTF8.self)
    }
}
