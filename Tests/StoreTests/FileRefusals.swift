// SPDX-License-Identifier: Apache-2.0

import ModelStore
import TestSupport

/// What can be wrong with a file, one thing at a time.
enum Refusals {
    static let containers: [Refusal] = [
        Refusal(
            "an old llama.cpp format",
            .notGGUF("a file of an old llama.cpp: pack the checkpoint it was made of")
        ) {
            $0.magic = Array("lmgg".utf8)
        },
        Refusal("an older GGUF", .otherProgram("it is of GGUF version 2")) {
            $0.version = 2
        },
        Refusal(
            "big-endian GGUF", .otherProgram("its numbers are big-endian (GGUF version 3)")
        ) {
            $0.version = 0x0300_0000
        },
        Refusal(
            "a newer packed format",
            .unsupportedVersion("the packed format", found: 3, expected: 2)
        ) {
            $0.set(FormatKeys.hgrnbit.formatVersion, .uint32(3))
        },
        Refusal(
            "another architecture",
            .otherProgram(
                "its architecture is 'llama', this program reads 'hgrnbit', 'bitnet', 'llama-bitnet', "
                    + "'qwen3-bitnet'")
        ) {
            $0.set(FormatKeys.architecture, .string("llama"))
        },
        Refusal(
            "an architecture of a megabyte, by its beginning",
            .otherProgram(
                "its architecture is '\(String(repeating: "x", count: 80))…', this program reads 'hgrnbit', 'bitnet', 'llama-bitnet', 'qwen3-bitnet'"
            )
        ) {
            $0.set(FormatKeys.architecture, .string(String(repeating: "x", count: 1 << 20)))
        },
        Refusal(
            "an architecture of one endless letter",
            .otherProgram(
                "its architecture is 'e\(String(repeating: "\u{301}", count: 79))…', this program reads 'hgrnbit', 'bitnet', 'llama-bitnet', 'qwen3-bitnet'"
            )
        ) {
            let letter = "e" + String(repeating: "\u{301}", count: 1 << 16)
            $0.set(FormatKeys.architecture, .string(letter))
        },
        Refusal(
            "another alignment", .malformed("general.alignment is 32; it must be 64")
        ) {
            $0.set(FormatKeys.alignment, .uint32(32))
        },
        Refusal(
            "tensors beyond counting",
            .malformed("18446744073709551615 tensors; at most 131072 are allowed")
        ) {
            $0.tensorCount = .max
        },
        Refusal(
            "keys beyond counting",
            .malformed("18446744073709551615 metadata keys; at most 4096 are allowed")
        ) {
            $0.keyCount = .max
        },
    ]

    static let metadata: [Refusal] = [
        Refusal("a key twice", .malformed("the key general.architecture stands twice")) {
            $0.pairs.append($0.pairs[0])
        },
        Refusal("a key that is not UTF-8", .malformed("a metadata key at byte 24 is not UTF-8")) {
            $0.pairs.insert(([0x66, 0xff], .uint32(1)), at: 0)
        },
        Refusal(
            "a key of 257 bytes",
            .malformed("a metadata key at byte 24 is 257 bytes long; at most 256 are allowed")
        ) {
            $0.pairs.insert(([UInt8](repeating: 0x61, count: 257), .uint32(1)), at: 0)
        },
        Refusal("an unknown value type", .malformed("the key x is of the unknown type 13")) {
            $0.set("x", RawValue(type: 13, bytes: []))
        },
        Refusal("arrays of arrays", .malformed("the key x holds arrays of arrays")) {
            $0.set("x", .array([.array([], of: 4)], of: 9))
        },
        Refusal(
            "an array longer than the file",
            .truncated("x", offset: 1260, needs: .max, has: 1172)
        ) {
            $0.set("x", .array([], of: 10, count: 1 << 61))
        },
        Refusal(
            "more strings than the file has room for",
            .truncated("x", offset: 1260, needs: .max, has: 1172)
        ) {
            $0.set("x", .array([], of: 8, count: .max))
        },
        Refusal(
            "a string longer than the file",
            .truncated("general.architecture", offset: 64, needs: .max, has: 2368)
        ) {
            $0.pairs[0].value.bytes.replaceSubrange(0..<8, with: little(UInt64.max))
        },
        Refusal(
            "text that is not UTF-8",
            .malformed("the key general.architecture holds text that is not UTF-8")
        ) {
            $0.set(FormatKeys.architecture, .text([0x68, 0xc0, 0x80]))
        },
        Refusal(
            "another type than the key's",
            .wrongType(key: "general.architecture", expected: "string", found: "uint32")
        ) {
            $0.set(FormatKeys.architecture, .uint32(1))
        },
        Refusal(
            "an array where one value belongs",
            .wrongType(key: "general.alignment", expected: "uint32", found: "2 × uint32")
        ) {
            $0.set(FormatKeys.alignment, .uint32s([64, 64]))
        },
        Refusal(
            "one value where an array belongs",
            .wrongType(
                key: "hgrnbit.packed.scales", expected: "an array of float32", found: "float32")
        ) {
            $0.set(FormatKeys.hgrnbit.packedScales, .float(1))
        },
        Refusal(
            "a bool that is neither true nor false",
            .malformed("the key hgrnbit.use_lower_bound holds the bool 2; it must be 0 or 1")
        ) {
            $0.set(FormatKeys.hgrnbit.useLowerBound, .bool(2))
        },
    ]

    static let tensors: [Refusal] = [
        Refusal("a name twice", .malformed("the tensor a.weight stands twice")) {
            $0.tensors[2].name = $0.tensors[1].name
        },
        Refusal("no dimensions", .malformed("tensor a.weight has 0 dimensions; 1 to 4 are allowed"))
        { $0.tensors[1].dimensionCount = 0 },
        Refusal(
            "dimensions beyond counting",
            .malformed("tensor a.weight has 4294967295 dimensions; 1 to 4 are allowed")
        ) {
            $0.tensors[1].dimensionCount = .max
        },
        Refusal(
            "a dimension of zero", .malformed("tensor a.weight has an impossible dimension of 0")
        ) {
            $0.tensors[1].dimensions = [256, 0]
        },
        Refusal(
            "a dimension beyond all use",
            .malformed("tensor a.weight has an impossible dimension of 18446744073709551615")
        ) {
            $0.tensors[1].dimensions = [.max]
        },
        Refusal(
            "dimensions whose product overflows",
            .malformed("tensor a.weight has an impossible dimension of 8589934588")
        ) {
            $0.tensors[1].dimensions = [8_589_934_588, 8_589_934_588]
        },
        Refusal(
            "more bytes than an address can say",
            .malformed("tensor norm.weight is larger than any memory")
        ) {
            $0.tensors[0].dimensions = [1 << 32, 1 << 29]
        },
        Refusal(
            "a type of other programs' quantisation",
            .malformed(
                "tensor norm.weight is of GGUF type Q4_K (12); this format uses F32, F16, BF16, I8 and I32"
            )
        ) { $0.tensors[0].type = 12 },
        Refusal(
            "a type nobody knows",
            .malformed(
                "tensor norm.weight is of GGUF type 4096; this format uses F32, F16, BF16, I8 and I32"
            )
        ) { $0.tensors[0].type = 4096 },
        Refusal(
            "data between two alignments",
            .malformed("tensor a.weight begins at 72, not on a multiple of 64")
        ) { $0.tensors[1].offset = 72 },
        Refusal(
            "data after the end",
            .truncated("tensor b.weight", offset: 2432, needs: 64, has: 0)
        ) { $0.tensors[2].offset = .max - 63 },
        Refusal(
            "data across the end",
            .truncated("tensor b.weight", offset: 2368, needs: 128, has: 64)
        ) {
            $0.tensors[2].dimensions = [128]
            $0.tensors[2].offset = 960
        },
        Refusal("data over other data", .malformed("tensors a.weight and b.weight overlap")) {
            $0.tensors[2].offset = 256
        },
        Refusal("data over its like", .malformed("tensors norm.weight and b.weight overlap")) {
            $0.tensors[2].offset = 0
        },
        Refusal(
            "a name of 64 bytes",
            .malformed("a tensor's name at byte 1235 is 64 bytes long; at most 63 are allowed")
        ) {
            $0.tensors[0].name = [UInt8](repeating: 0x61, count: 64)
        },
    ]

    static let packed: [Refusal] = [
        Refusal(
            "another layout",
            .malformed("hgrnbit.packed.encoding is 'TQ2_0'; this program reads 'R16K4T5'")
        ) { $0.set(FormatKeys.hgrnbit.packedEncoding, .string("TQ2_0")) },
        Refusal(
            "a layout of a long name",
            .malformed(
                "hgrnbit.packed.encoding is '\(String(repeating: "T", count: 80))…'; this program reads 'R16K4T5'"
            )
        ) { $0.set(FormatKeys.hgrnbit.packedEncoding, .string(String(repeating: "T", count: 81))) },
        Refusal(
            "arrays of different lengths",
            .malformed("the hgrnbit.packed.* arrays differ in length: the file is inconsistent")
        ) { $0.set(FormatKeys.hgrnbit.packedScales, .floats([1])) },
        Refusal(
            "more matrices than tensors",
            .malformed("the key hgrnbit.packed.names holds 4 strings; at most 3 fit")
        ) { $0.set(FormatKeys.hgrnbit.packedNames, .strings(["", "", "", ""])) },
        Refusal(
            "more rows than tensors",
            .malformed("the key hgrnbit.packed.rows holds 4 numbers; at most 3 fit")
        ) { $0.set(FormatKeys.hgrnbit.packedRows, .uint32s([17, 1, 1, 1])) },
        Refusal(
            "more columns than tensors",
            .malformed("the key hgrnbit.packed.columns holds 4 numbers; at most 3 fit")
        ) { $0.set(FormatKeys.hgrnbit.packedColumns, .uint32s([21, 20, 1, 1])) },
        Refusal(
            "more scales than tensors",
            .malformed("the key hgrnbit.packed.scales holds 4 numbers; at most 3 fit")
        ) { $0.set(FormatKeys.hgrnbit.packedScales, .floats([1, 1, 1, 1])) },
        Refusal(
            "a matrix that is no tensor",
            .malformed("hgrnbit.packed.names names c.weight, which is no tensor of the file")
        ) { $0.set(FormatKeys.hgrnbit.packedNames, .strings(["a.weight", "c.weight"])) },
        Refusal("a matrix twice", .malformed("hgrnbit.packed.names names a.weight twice")) {
            $0.set(FormatKeys.hgrnbit.packedNames, .strings(["a.weight", "a.weight"]))
            $0.set(FormatKeys.hgrnbit.packedRows, .uint32s([17, 17]))
            $0.set(FormatKeys.hgrnbit.packedColumns, .uint32s([21, 21]))
        },
        Refusal(
            "a matrix of floats",
            .malformed("tensor norm.weight is 24 bytes of f32, which is not 17 × 21 packed trits")
        ) { $0.set(FormatKeys.hgrnbit.packedNames, .strings(["norm.weight", "b.weight"])) },
        Refusal(
            "more columns than bytes",
            .malformed("tensor a.weight is 256 bytes of i8, which is not 17 × 41 packed trits")
        ) { $0.set(FormatKeys.hgrnbit.packedColumns, .uint32s([41, 20])) },
        Refusal(
            "no rows",
            .malformed("tensor b.weight is 64 bytes of i8, which is not 0 × 20 packed trits")
        ) { $0.set(FormatKeys.hgrnbit.packedRows, .uint32s([17, 0])) },
        Refusal(
            "rows and columns beyond all use",
            .malformed(
                "tensor a.weight is 256 bytes of i8, which is not 4294967295 × 4294967295 packed trits"
            )
        ) {
            $0.set(FormatKeys.hgrnbit.packedRows, .uint32s([.max, 1]))
            $0.set(FormatKeys.hgrnbit.packedColumns, .uint32s([.max, 20]))
        },
        Refusal(
            "more columns than sums of 32 bits allow",
            .malformed("tensor b.weight has 8388609 columns; at most 8388608 are allowed")
        ) {
            let bytes = 64 * 419_431
            $0.set(FormatKeys.hgrnbit.packedColumns, .uint32s([21, 8_388_609]))
            $0.tensors[2].dimensions = [UInt64(bytes)]
            $0.data = [UInt8](repeating: 0, count: 320 + bytes)
        },
        Refusal(
            "a scale of zero", .malformed("tensor b.weight has the scale 0.0; it must be positive")
        ) { $0.set(FormatKeys.hgrnbit.packedScales, .floats([0.5, 0])) },
        Refusal(
            "a scale below zero",
            .malformed("tensor b.weight has the scale -1.0; it must be positive")
        ) { $0.set(FormatKeys.hgrnbit.packedScales, .floats([0.5, -1])) },
        Refusal(
            "a scale without end",
            .malformed("tensor a.weight has the scale inf; it must be positive")
        ) { $0.set(FormatKeys.hgrnbit.packedScales, .floats([.infinity, 1])) },
        Refusal(
            "a scale that is no number",
            .malformed("tensor a.weight has the scale nan; it must be positive")
        ) { $0.set(FormatKeys.hgrnbit.packedScales, .floats([.nan, 1])) },
    ]

    static let digests: [Refusal] = [
        Refusal(
            "another hash",
            .malformed("hgrnbit.digest.algorithm is 'md5'; this program checks 'sha256'")
        ) { $0.set(FormatKeys.hgrnbit.digestAlgorithm, .string("md5")) },
        Refusal(
            "a tensor without a digest",
            .malformed("hgrnbit.digest.names does not name every tensor in order")
        ) { $0.set(FormatKeys.hgrnbit.digestNames, .strings(["norm.weight", "a.weight"])) },
        Refusal(
            "digests in another order",
            .malformed("hgrnbit.digest.names does not name every tensor in order")
        ) {
            $0.set(
                FormatKeys.hgrnbit.digestNames, .strings(["a.weight", "norm.weight", "b.weight"]))
        },
        Refusal(
            "names without digests",
            .malformed("hgrnbit.digest.names does not name every tensor in order")
        ) { $0.set(FormatKeys.hgrnbit.digestValues, .strings([RawFile.digest])) },
        Refusal(
            "a digest too short", .malformed("hgrnbit.digest.model is not a SHA-256 digest")
        ) { $0.set(FormatKeys.hgrnbit.digestModel, .string("00")) },
    ]
}
