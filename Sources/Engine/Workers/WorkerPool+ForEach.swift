// SPDX-License-Identifier: Apache-2.0

import Synchronization

extension WorkerPool {
    private final class Pieces {
        let next = Atomic(0)
        let count: Int
        let body: (Int) -> Void

        init(_ count: Int, _ body: @escaping (Int) -> Void) {
            self.count = count
            self.body = body
        }

        func work() {
            while true {
                let piece = next.wrappingAdd(1, ordering: .relaxed).oldValue
                guard piece < count else { return }
                body(piece)
            }
        }
    }

    /// Runs `body` once for each of 0 ..< count, on whichever workers are free; returns when all are done.
    package func forEach(_ count: Int, _ body: (Int) -> Void) {
        guard count > 1, self.count > 1 else { return (0..<count).forEach(body) }
        withoutActuallyEscaping(body) { body in
            let pieces = Pieces(count, body)
            share(Unmanaged.passUnretained(pieces).toOpaque()) { context, _ in
                Unmanaged<Pieces>.fromOpaque(context).takeUnretainedValue().work()
            }
            withExtendedLifetime(pieces) {}
        }
    }
}
