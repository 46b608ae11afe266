// SPDX-License-Identifier: Apache-2.0

internal import ModelStore
internal import SystemPackage

/// One packing under way: the file being written and what is known so far.
struct PackRun: ~Copyable {
    /// Bytes of the embedding written at a time.
    private static let chunk = 4 << 20

    private let source: PackSource
    private let embedding: PackJob.Embedding
    private let ternariser: Ternariser
    private let destination: FilePath
    private let total: Int
    private var done = 0
    private var writer: PackedWriter
    private var report: PackReport
    private var rowScaled: [String] = []
    /// Matrices whose scale is far from what a trained one's is.
    private var oddScales: [String] = []
    private var zeros: [String] = []
    /// A tied head is the embedding, which no converter makes ternary.
    private var sharesHead = false

    init(
        _ source: PackSource, _ contents: PackedContents, to destination: FilePath,
        replacing: Bool, _ ternariser: Ternariser
    ) throws(PackError) {
        var total = 0
        for role in source.roles {
            total += try source.tensor(role).entry.byteCount
        }
        var report = PackReport(name: contents.name)
        report.checkpointBytes = source.byteCount
        report.weights = source.parameterCount
        report.embedding = contents.embedding.rawValue
        let writer = try contents.writer(to: destination, replacing: replacing)
        self.source = source
        embedding = contents.embedding == .q6 ? .q6 : .keep
        self.ternariser = ternariser
        self.total = total
        self.destination = destination
        self.writer = writer
        self.report = report
    }

    /// Reads, converts and writes one tensor; then lets go of it.
    mutating func pack(
        _ role: TensorRole, isCancelled: () -> Bool, progress: (PackJob.Progress) -> Void
    ) throws(PackError) {
        let tensor = try source.tensor(role)
        let (done, total) = (done, total)
        func step(_ within: Int) throws(PackError) {
            if isCancelled() { throw .cancelled }
            progress(PackJob.Progress(done: done + within, total: total, tensor: tensor.name))
        }
        try step(0)
        // Zero lower bounds are what training begins with.
        if tensor.type.isFloat, role != lowerBounds,
            tensor.withBytes({ $0.allSatisfy { $0 == 0 } })
        {
            zeros.append(role.name)
        }
        switch role.kind {
        case .vector: try vector(role, tensor)
        case .ternary: try matrix(role, tensor)
        case .embedding: try rows(role, tensor, step)
        case .dense: try floats(tensor, step)
        }
        try tensor.file.checkUnchanged()
        tensor.release()
        self.done += tensor.entry.byteCount
    }

    // MARK: - The three kinds

    private mutating func vector(
        _ role: TensorRole, _ tensor: CheckpointTensor
    ) throws(PackError) {
        let values = try tensor.floats()
        try write(values)
        if case .hgrnbit(let checkpoint) = source, role == lowerBounds {
            let shape = checkpoint.config.shape
            try write(
                shape.inner == shape.hidden
                    ? LowerBoundTable.folded(values, layers: shape.layers, width: shape.hidden)
                    : [Float](repeating: 0, count: shape.stateCount))
        }
    }

    private var lowerBounds: TensorRole? {
        if case .hgrnbit(let checkpoint) = source { checkpoint.layout.lowerBounds } else { nil }
    }

    private mutating func matrix(
        _ role: TensorRole, _ tensor: CheckpointTensor
    ) throws(PackError) {
        switch source {
        case .hgrnbit(let checkpoint): try matrix(role, tensor, checkpoint)
        case .attention(let checkpoint, let masters):
            guard let product = checkpoint.layout.products.first(where: { $0.weight == role })
            else { return }
            let matrix = try checkpoint.matrix(product, ternariser, masters: masters)
            let gain = matrix.scale * Float(matrix.columns).squareRoot()
            if !(0.02...50).contains(gain) { oddScales.append("\(role.name) (\(matrix.scale))") }
            var isTernary = true
            if case .floats(let rule) = matrix.trits { isTernary = rule.alreadyTernary }
            try write(
                role, MatrixPacker(ternariser: ternariser).pack(matrix), scale: matrix.scale,
                isTernary: isTernary)
        }
    }

    private mutating func write(
        _ role: TensorRole, _ result: MatrixPacker.Result, scale: Float, isTernary: Bool
    ) throws(PackError) {
        try write(result.bytes)
        do { try writer.setScale(scale, of: role.packedName) } catch { throw .store(error) }
        report.matrices += 1
        report.alreadyTernary += isTernary ? 1 : 0
        report.ternaryWeights += role.count
        report.ternaryBytes += result.bytes.count
        count(role, zeros: role.count - result.nonzero, of: role.count)
    }

    private mutating func matrix(
        _ role: TensorRole, _ tensor: CheckpointTensor, _ checkpoint: Checkpoint
    ) throws(PackError) {
        let rule = try ternariser.rule(for: tensor)
        if ternariser.isScaledByRow(tensor, rule) { rowScaled.append(role.name) }
        if rule.widened {
            report.warnings.append(
                "\(role.name): weights too small for F16 arithmetic; F32 was used")
        }
        let result = MatrixPacker(ternariser: ternariser).pack(tensor, rule)
        try write(role, result, scale: rule.scale, isTernary: rule.alreadyTernary)
        if checkpoint.config.shape.isTied, role == checkpoint.layout.head.weight {
            sharesHead = !rule.alreadyTernary
        }
    }

    private mutating func count(_ role: TensorRole, zeros: Int, of weights: Int) {
        let kind = role.kindName
        if let place = report.zeros.firstIndex(where: { $0.kind == kind }) {
            report.zeros[place].zeros += zeros
            report.zeros[place].weights += weights
        } else {
            report.zeros.append(.init(kind: kind, zeros: zeros, weights: weights))
        }
    }

    private mutating func rows(
        _ role: TensorRole, _ tensor: CheckpointTensor, _ step: (Int) throws(PackError) -> Void
    ) throws(PackError) {
        if embedding == .keep {
            try floats(tensor, step)
            report.embeddingBytes = tensor.entry.byteCount
            return
        }
        let coder = EmbeddingCoder(parallel: ternariser.parallel)
        let count = max(1, Self.chunk / max(1, tensor.columns * 4))
        var (error, power) = (0.0, 0.0)
        for start in stride(from: 0, to: tensor.rows, by: count) {
            try step(start * tensor.columns * tensor.type.size)
            let rows = try coder.encode(tensor, rows: start..<min(tensor.rows, start + count))
            try write(rows.bytes)
            error += rows.error
            power += rows.power
            report.embeddingBytes += rows.bytes.count
        }
        report.embeddingError = power == 0 ? 0 : (error / power).squareRoot()
    }

    /// A matrix of floats as it is.
    private mutating func floats(
        _ tensor: CheckpointTensor, _ step: (Int) throws(PackError) -> Void
    ) throws(PackError) {
        try ternariser.checkFinite(tensor)
        try tensor.withBytes { bytes throws(PackError) in
            for start in stride(from: 0, to: bytes.count, by: Self.chunk) {
                try step(start)
                let end = min(bytes.count, start + Self.chunk)
                try write(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
            }
        }
    }

    // MARK: - Writing

    private mutating func write(_ bytes: UnsafeRawBufferPointer) throws(PackError) {
        do { try writer.write(bytes) } catch { throw .store(error) }
    }

    private mutating func write(_ values: [some BitwiseCopyable]) throws(PackError) {
        do { try writer.write(values) } catch { throw .store(error) }
    }

    /// Ends the file and puts it in its place.
    consuming func finish() throws(PackError) -> PackReport {
        var report = report
        report.fileBytes = writer.fileSize
        do {
            try writer.finish()
            report.digest = try PackedFile(path: destination).modelDigest
        } catch { throw .store(error) }
        if let first = zeros.first {
            report.warnings.append(
                "\(zeros.count) tensors hold zeros only, \(first) first: the checkpoint was not written whole, or never trained"
            )
        }
        if !rowScaled.isEmpty {
            report.warnings.append(
                "\(rowScaled.count) matrices hold ternary rows with a scale for each row, "
                    + "\(rowScaled[0]) first. HGRNBit has one scale for a matrix: this looks like "
                    + "another format, and will not compute what it was trained for")
        }
        if oddScales.count * 2 > report.matrices, report.matrices > 0 {
            report.warnings.append(
                "\(oddScales.count) of \(report.matrices) matrices have scales that make their products vanish or explode, "
                    + "\(oddScales[0]) first: does weight_scale mean what linear_class in config.json says, or its reciprocal?"
            )
        }
        let own = report.matrices - (sharesHead ? 1 : 0)
        if report.alreadyTernary > 0, report.alreadyTernary < own {
            report.warnings.append(
                "\(report.alreadyTernary) of \(report.matrices) matrices were ternary already and "
                    + "the others not: was this checkpoint converted half-way?")
        }
        return report
    }
}

/// Gives the store's errors our type.
func storing<R: ~Copyable>(
    _ body: () throws(StoreError) -> R
) throws(PackError) -> R {
    do { return try body() } catch { throw .store(error) }
}
