// SPDX-License-Identifier: Apache-2.0

import CKernels
import ModelStore

extension Evaluator {
    /// Rows that share a head of keys follow each other, so that the keys stay in a worker's cache.
    func shareHeads(_ attention: Attention) {
        let units = count * attention.keyHeads
        shares.reset(units, chunk: max(1, units / (workerCount * 16)))
    }

    /// One row's query heads that share a head of keys. unit: head of keys · rows + row.
    func attend(_ attention: Attention, _ unit: Int, _ worker: Int) {
        let (keyHead, row) = (unit / count, unit % count)
        let (view, d) = (views[row], attention.headSize)
        let place = row * attention.queryWidth + keyHead * attention.group * d
        kernels.pointee.attend(
            attention.stored.encoding, scratch.queries + place, attention.group, d, view.pages,
            attention.keys(keyHead), attention.values(keyHead), view.position + 1,
            attention.scale, scratch.scores[worker], scratch.mixed + place)
    }

    /// Queries, keys and values of one row.
    func remember(_ attention: Attention, _ row: Int, _ worker: Int) {
        let (view, d) = (views[row], attention.headSize)
        let cosines = scratch.rotations + row * d
        kernels.pointee.rotate(
            products(attention.query, row), scale(of: attention.query, row), attention.heads, d,
            attention.queryNorm?.weights, attention.epsilon, cosines, cosines + d / 2,
            scratch.queries + row * attention.queryWidth)
        let keys = scratch.work[worker]
        kernels.pointee.rotate(
            products(attention.key, row), scale(of: attention.key, row), attention.keyHeads, d,
            attention.keyNorm?.weights, attention.epsilon, cosines, cosines + d / 2, keys)
        let values = keys + attention.keyWidth
        kernels.pointee.scale(
            values, products(attention.value, row), scale(of: attention.value, row),
            attention.keyWidth)
        store(attention, keys, values, in: view.target, lane: view.position)
        for copy in copies where copy.row == row {
            store(attention, keys, values, in: copy.target, lane: copy.lane)
        }
    }

    /// A row's keys and values, [keyHeads][headSize] each, into its place in a page.
    private func store(
        _ attention: Attention, _ keys: UnsafePointer<Float>, _ values: UnsafePointer<Float>,
        in page: UnsafeMutableRawPointer, lane: Int
    ) {
        let (d, type) = (attention.headSize, attention.stored)
        for head in 0..<attention.keyHeads {
            ck_store_key(
                type.encoding, page + attention.keys(head) * type.byteCount, keys + head * d, d,
                lane)
            ck_store_value(
                type.encoding, page + attention.values(head) * type.byteCount, values + head * d,
                d, lane)
        }
    }
}
