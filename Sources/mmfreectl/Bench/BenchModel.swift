// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import CKernels
import ModelStore
import SystemPackage

/// A published size, filled with random trits: as fast and as large as the real one.
enum PublishedShape: String, ExpressibleByArgument, CaseIterable {
    case m370 = "370M"
    case b1 = "1.3B"
    case b2 = "2.7B"

    var hidden: Int { self == .m370 ? 1024 : self == .b1 ? 2048 : 2560 }
    var layers: Int { self == .b2 ? 32 : 24 }
    var intermediate: Int { self == .m370 ? 2816 : self == .b1 ? 5632 : 6912 }
    static let vocabulary = 32000

    /// Writes a packed file of this shape.
    func write(to path: FilePath, embedding: EmbeddingEncoding = .q6) throws(StoreError) {
        let (d, i, v) = (hidden, intermediate, Self.vocabulary)
        var tensors: [TensorPlan] = []
        func floats(_ name: String, _ shape: [Int]) {
            tensors.append(TensorPlan(name: name + ".weight", type: .f32, shape: shape))
        }
        func matrix(_ name: String, _ rows: Int, _ columns: Int) {
            tensors.append(
                TensorPlan(
                    packed: name + ".weight", rows: rows, columns: columns, sourceType: "BF16"))
        }
        floats("lower_bounds", [layers, d])
        floats("lower_bound_table", [layers, d])
        floats("output_norm", [d])
        floats("output_head_norm", [d])
        for n in 0..<layers {
            for name in [
                "attn_norm", "attn_i_norm", "attn_f_norm", "attn_g_norm", "attn_gate_norm",
                "attn_output_norm", "ffn_norm", "ffn_gate_up_norm",
            ] { floats("blk.\(n).\(name)", [d]) }
            floats("blk.\(n).ffn_down_norm", [i])
        }
        for n in 0..<layers {
            for name in ["attn_i", "attn_f", "attn_g", "attn_output"] {
                matrix("blk.\(n).\(name)", d, d)
            }
            matrix("blk.\(n).ffn_gate_up", 2 * i, d)
            matrix("blk.\(n).ffn_down", d, i)
        }
        matrix("output", v, d)
        let embeddingBytes = embedding == .q6 ? ck_q6_row_bytes(d) : d * 2
        tensors.append(
            embedding == .q6
                ? TensorPlan(name: "token_embd.weight", type: .i8, shape: [v, embeddingBytes])
                : TensorPlan(name: "token_embd.weight", type: .bf16, shape: [v, d]))
        var writer = try PackedWriter(
            path: path, metadata: metadata(embedding), tensors: tensors, replacing: true)
        var random = Pattern()
        for tensor in tensors {
            if let packed = tensor.packed {
                try random.writeTrits(tensor.byteCount, to: &writer)
                // About what keeps activations at a sensible size.
                try writer.setScale(1.2 / Float(packed.columns).squareRoot(), of: tensor.name)
            } else if tensor.type == .f32 {
                try random.writeFloats(tensor.byteCount / 4, to: &writer)
            } else {
                try random.writeEmbedding(rows: v, columns: d, embedding, to: &writer)
            }
        }
        try writer.finish()
    }

    private func metadata(_ embedding: EmbeddingEncoding) -> [(key: String, value: MetadataValue)] {
        [
            (FormatKeys.architecture, .string(Format.architecture)),
            (FormatKeys.name, .string("random \(rawValue)")),
            (FormatKeys.alignment, .uint32(UInt32(Format.alignment))),
            (FormatKeys.formatVersion, .uint32(Format.version)),
            (FormatKeys.vocabularySize, .uint32(UInt32(Self.vocabulary))),
            (FormatKeys.embeddingLength, .uint32(UInt32(hidden))),
            (FormatKeys.blockCount, .uint32(UInt32(layers))),
            (FormatKeys.feedForwardLength, .uint32(UInt32(intermediate))),
            (FormatKeys.innerLength, .uint32(UInt32(hidden))),
            (FormatKeys.headCount, .uint32(1)),
            (FormatKeys.contextLength, .uint32(2048)),
            (FormatKeys.rmsEpsilon, .float(1e-6)),
            (FormatKeys.useLowerBound, .bool(true)),
            (FormatKeys.tieWordEmbeddings, .bool(false)),
            (FormatKeys.embeddingEncoding, .string(embedding.rawValue)),
        ]
    }
}

/// Reproducible random bytes, a megabyte of each kind repeated.
private struct Pattern {
    private var state: UInt64 = 1
    private let trits: [UInt8]

    init() {
        var state: UInt64 = 1
        trits = (0..<1 << 20).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return UInt8((state >> 33) % 243)
        }
    }

    private mutating func unit() -> Float {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Float(state >> 40) * 0x1p-24
    }

    mutating func writeTrits(_ count: Int, to writer: inout PackedWriter) throws(StoreError) {
        var left = count
        while left > 0 {
            try write(trits, min(left, trits.count), to: &writer)
            left -= min(left, trits.count)
        }
    }

    mutating func writeFloats(_ count: Int, to writer: inout PackedWriter) throws(StoreError) {
        var values: [Float] = []
        for _ in 0..<count { values.append(0.25 + unit() / 2) }
        try write(values, count * 4, to: &writer)
    }

    mutating func writeEmbedding(
        rows: Int, columns: Int, _ encoding: EmbeddingEncoding, to writer: inout PackedWriter
    ) throws(StoreError) {
        var values: [Float] = []
        for _ in 0..<columns { values.append(unit() - 0.5) }
        var row = [UInt8](
            repeating: 0, count: encoding == .q6 ? ck_q6_row_bytes(columns) : columns * 2)
        if encoding == .q6 {
            ck_q6_encode(values, columns, &row)
        } else {
            for (k, value) in values.enumerated() {
                row[2 * k] = UInt8(truncatingIfNeeded: value.bitPattern >> 16)
                row[2 * k + 1] = UInt8(truncatingIfNeeded: value.bitPattern >> 24)
            }
        }
        for _ in 0..<rows { try write(row, row.count, to: &writer) }
    }

    private func write<T>(
        _ values: [T], _ bytes: Int, to writer: inout PackedWriter
    ) throws(StoreError) {
        let result: Result<Void, StoreError> = values.withUnsafeBytes { raw in
            do throws(StoreError) {
                try writer.write(UnsafeRawBufferPointer(rebasing: raw[..<bytes]))
                return .success(())
            } catch { return .failure(error) }
        }
        try result.get()
    }
}
