// SPDX-License-Identifier: Apache-2.0

import CKernels
import CLinux
import Engine
import ModelStore

/// Interleaved rounds over one model: the machine's own limits, then the model at each size, all in one round.
final class BenchRun {
    private let model: Model
    private let workers: WorkerPool
    private let kernels: Kernels.Table
    private let evaluator: Evaluator
    private let states: StatePool
    /// The ternary stream: where it begins and how long it is.
    private let stream: UnsafeRawBufferPointer
    /// Of a head that is not ternary.
    private let headBytes: Int
    /// What a token reads.
    private var tokenBytes: Int { stream.count + headBytes }

    private struct Sample {
        /// Whole time of one step and the part of it that was ternary products. Nanoseconds.
        var total, products: Double
        /// Of each step that the times above are the mean of.
        var steps: [Double]
        /// Of the round it was taken in.
        var readNanoseconds, peakPerNanosecond: Double
    }
    private var batches: [Int: [Sample]] = [:]
    private var prompts: [Int: [Sample]] = [:]
    private var reads: [Double] = []
    private var peaks: [Double] = []
    private var cached: [Double] = []
    private var trips: [Double] = []
    private var choices: [Double] = []
    private var sampling: SamplingBench?
    /// A matrix, and one row of activations, to run the kernels out of the cache with.
    private let matrix: PackedMatrix
    private let row: UnsafeMutablePointer<Int8>
    private let products: UnsafeMutablePointer<Int32>

    /// Prompt rows computed in one go.
    static let chunk = 512

    init(_ file: PackedFile, _ options: LocalOptions) throws {
        model = try options.model(file)
        kernels = try options.table()
        workers = options.workers()
        evaluator = try Evaluator(
            model: model, workers: workers, maxRows: Self.chunk, kernels: kernels)
        states = try StatePool(slots: 512, model: model)
        if model.shape.hasHead {
            sampling = SamplingBench(vocabulary: model.shape.vocabulary, kernels: kernels)
        }
        guard
            let largest = file.packed.values.max(by: { $0.rows * $0.columns < $1.rows * $1.columns }
            )
        else { throw Failure("no ternary matrix", .data) }
        matrix = largest
        row = .allocate(capacity: ck_padded_columns(largest.columns))
        row.initialize(repeating: 3, count: ck_padded_columns(largest.columns))
        products = .allocate(capacity: (largest.rows + 16) * workers.count)
        let packed = file.packed.values.map(\.info)
        let start = packed.map(\.offset).min() ?? 0
        let end = packed.map { $0.offset + $0.byteCount }.max() ?? 0
        stream = UnsafeRawBufferPointer(
            start: file.map.start + start, count: (end - start) / 64 * 64)
        if case .attention = model.shape, model.shape.hasHead {
            let head = file["output.weight"] ?? file["token_embd.weight"]
            headBytes = head?.byteCount ?? 0
        } else {
            headBytes = 0
        }
    }

    deinit {
        row.deallocate()
        products.deallocate()
    }

    /// Tokens that a sequence may have; `nil` for no limit.
    var context: Int? { model.memory.context }

    var title: String {
        let shape = model.shape
        return
            "\(Kernels.name(of: kernels)) kernels, \(workers.count) threads; hidden \(shape.hidden), \(shape.layers) layers, "
            + "\(Terminal.bytes(stream.count)) of ternary weights, \(Terminal.bytes(model.file.map.hugePageBytes)) mapped by huge pages"
            + (model.memory.keyValueType.map { ", keys and values in \($0.rawValue)" } ?? "")
    }

    func round(batches sizes: [Int], prompts lengths: [Int], counts: Bool) throws {
        // A first pass also writes back what the last step left in the caches; the limit is what the next ones find.
        let read = (0..<3).map { _ in nanoseconds { self.readAll() } }.min() ?? .nan
        let peak = peakPerNanosecond()
        let cache = runCached()
        if counts, let trip = CoreToCore.roundTrip(workers) { trips.append(trip) }
        let choice = sampling?.run()
        if counts {
            if let choice { choices.append(choice) }
            reads.append(read)
            peaks.append(peak)
            cached.append(cache)
        }
        // What the last row of a step is computed for.
        let last: Wants = model.shape.hasHead ? .logits : .hidden
        for size in sizes {
            let rows = (0..<size).map { BatchRow(slot: $0, token: UInt32($0 + 3), wants: last) }
            let sample = try step(rows, times: size > 8 ? 1 : 3, read, peak)
            if counts { batches[size, default: []].append(sample) }
        }
        for length in lengths {
            let rows = (0..<length).map {
                BatchRow(
                    slot: 0, token: UInt32($0 % 997), wants: $0 == length - 1 ? last : .nothing)
            }
            let sample = try step(rows, times: 1, read, peak)
            if counts { prompts[length, default: []].append(sample) }
        }
    }

    private func step(_ rows: [BatchRow], times: Int, _ read: Double, _ peak: Double) throws
        -> Sample
    {
        evaluator.resetTimings()
        var steps: [Double] = []
        for _ in 0..<times {
            let before = evaluator.totalNanoseconds
            for slot in Set(rows.map(\.to)) where model.memory.context != nil {
                states.reset(slot)
            }
            var rest = rows[...]
            while !rest.isEmpty {
                try evaluator.run(Array(rest.prefix(Self.chunk)), states: states)
                rest = rest.dropFirst(Self.chunk)
            }
            steps.append(Double(evaluator.totalNanoseconds &- before))
        }
        return Sample(
            total: Double(evaluator.totalNanoseconds) / Double(times),
            products: Double(evaluator.productNanoseconds) / Double(times), steps: steps,
            readNanoseconds: read, peakPerNanosecond: peak)
    }

    // MARK: What the machine gives

    private func nanoseconds(_ body: () -> Void) -> Double {
        let began = cl_monotonic_nanoseconds()
        body()
        return Double(cl_monotonic_nanoseconds() &- began)
    }

    private func readAll() {
        workers.run(Unmanaged.passUnretained(self).toOpaque()) { context, worker in
            let run = Unmanaged<BenchRun>.fromOpaque(context).takeUnretainedValue()
            let vectors = run.stream.count / 64
            let first = vectors * worker / run.workers.count * 64
            let end = vectors * (worker + 1) / run.workers.count * 64
            let bytes = run.stream.baseAddress!.assumingMemoryBound(to: UInt8.self)
            blackHole(run.kernels.pointee.read_all(bytes + first, end - first))
        }
    }

    /// Multiply-adds a nanosecond, all threads together, over at least `peakNanoseconds`: clocks need a while to settle.
    private func peakPerNanosecond() -> Double {
        while true {
            let time = nanoseconds { self.runPeak() }
            if time >= Self.peakNanoseconds || peakWork >= 1 << 45 {
                return Double(peakWork) * Double(workers.count) / time
            }
            peakWork *= 2
        }
    }
    private static let peakNanoseconds = 20e6
    private var peakWork: UInt64 = 1 << 30

    private func runPeak() {
        workers.run(Unmanaged.passUnretained(self).toOpaque()) { context, _ in
            let run = Unmanaged<BenchRun>.fromOpaque(context).takeUnretainedValue()
            blackHole(run.kernels.pointee.dot_peak(run.peakWork))
        }
    }

    /// What the kernel for one row does when its weights lie in the second-level cache. GB/s, all threads together.
    private func runCached() -> Double {
        let time = nanoseconds {
            self.workers.run(Unmanaged.passUnretained(self).toOpaque()) { context, worker in
                Unmanaged<BenchRun>.fromOpaque(context).takeUnretainedValue().repeatCached(worker)
            }
        }
        return Double(workers.count * cachedTiles * cachedTurns * tileBytes) / time
    }

    private static let cachedTurns = 64
    private var cachedTurns: Int { Self.cachedTurns }
    private var tileBytes: Int { ck_padded_columns(matrix.columns) / 20 * 64 }
    private var cachedTiles: Int { max(2, min(ck_tiles(matrix.rows), (384 << 10) / tileBytes)) }

    private func repeatCached(_ worker: Int) {
        let packed = model.file.pointer(to: matrix.info).assumingMemoryBound(to: UInt8.self)
        var sum = Int32(3 * matrix.columns)
        for _ in 0..<cachedTurns {
            kernels.pointee.matmul(
                packed, matrix.columns, 0, cachedTiles, row, &sum, 1,
                products + worker * (matrix.rows + 16), matrix.rows + 16)
        }
    }

    // MARK: Figures

    func rows() -> [BenchRow] {
        let all = Double(model.shape.ternaryWeights)
        var layers = all
        if case .hgrnbit(let shape) = model.shape {
            // A prompt needs its head once.
            layers -= Double(shape.vocabulary * shape.hidden)
        }
        var rows = [
            BenchRow("read bandwidth", Double(stream.count) / Self.median(reads), "GB/s", nil, nil),
            BenchRow("int8 peak", Self.median(peaks), "GMAC/s", nil, nil),
            BenchRow("one-row kernel from cache", Self.median(cached), "GB/s", nil, nil),
        ]
        if !trips.isEmpty {
            rows.append(
                BenchRow("core to core, round trip", Self.median(trips), "ns", nil, nil))
        }
        if !choices.isEmpty {
            rows.append(
                BenchRow(
                    "sampling a token, flat logits", Self.median(choices) / 1e3, "µs", nil, nil))
        }
        for size in batches.keys.sorted() {
            let samples = batches[size] ?? []
            let time = Self.median(samples.map(\.total))
            rows.append(
                row("decode, batch \(size)", tokens: size, samples, weights: all * Double(size)))
            rows += Self.spread(samples.flatMap(\.steps), "step, batch \(size)")
            if size == 1 {
                rows.append(
                    BenchRow("streamed, batch 1", Double(tokenBytes) / time, "GB/s", nil, nil))
                rows.append(
                    BenchRow(
                        "not products, batch 1",
                        Self.median(samples.map { $0.total - $0.products }) / 1e3, "µs",
                        Self.median(samples.map { 1 - $0.products / $0.total }), "of a token"))
                rows.append(
                    BenchRow(
                        "products, batch 1", Self.median(samples.map { all / $0.products }),
                        "GMAC/s",
                        Self.median(samples.map { all / $0.products / $0.peakPerNanosecond }),
                        "of the int8 peak"))
            }
        }
        for length in prompts.keys.sorted() {
            rows.append(
                row(
                    "prompt of \(length)", tokens: length, prompts[length] ?? [],
                    weights: layers * Double(length)))
        }
        return rows
    }

    /// A speed, and its share of what bounds it: the bandwidth that reading the weights once takes, or the integer units' peak.
    private func row(
        _ name: String, tokens: Int, _ samples: [Sample], weights: Double
    ) -> BenchRow {
        let whole = Double(tokenBytes) / Double(stream.count)
        let reading = Self.median(samples.map { whole * $0.readNanoseconds / $0.total })
        let peak = Self.median(samples.map { weights / $0.total / $0.peakPerNanosecond })
        return BenchRow(
            name, Double(tokens) * 1e9 / Self.median(samples.map(\.total)), "tok/s",
            max(reading, peak),
            reading > peak ? "of the read bandwidth" : "of the int8 peak")
    }

    /// How far steps are from their median, of a hundred or more: what the machine itself takes from throughput, and adds to the gaps
    /// between tokens. Milliseconds.
    private static func spread(_ steps: [Double], _ name: String) -> [BenchRow] {
        guard steps.count >= 100 else { return [] }
        let p50 = median(steps)
        let mean = steps.reduce(0, +) / Double(steps.count)
        let p99 = steps.sorted()[steps.count * 99 / 100]
        return [
            BenchRow("\(name), mean", mean / 1e6, "ms", mean / p50, "of p50"),
            BenchRow("\(name), p99", p99 / 1e6, "ms", p99 / p50, "of p50"),
        ]
    }

    static func median(_ values: [Double]) -> Double {
        let sorted = values.sorted()
        guard !sorted.isEmpty else { return .nan }
        return sorted.count % 2 == 1
            ? sorted[sorted.count / 2]
            : (sorted[sorted.count / 2 - 1] + sorted[sorted.count / 2]) / 2
    }
}

/// Keeps a result from being optimised away.
@inline(never) private func blackHole(_ value: UInt64) {
    withExtendedLifetime(value) {}
}
