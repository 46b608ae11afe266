// SPDX-License-Identifier: Apache-2.0

import CKernels

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
        let first = attention.layer * 2 * attention.keyWidth * Int(CK_PAGE_TOKENS)
        let keys = first + keyHead * d * Int(CK_PAGE_TOKENS)
        kernels.pointee.attend(
            scratch.queries + place, attention.group, d, view.pages, keys,
            keys + attention.keyWidth * Int(CK_PAGE_TOKENS), view.position + 1, attention.scale,
            scratch.scores[worker], scratch.mixed + place)
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
        store(attention, row, keys, in: view.target, lane: view.position)
        for copy in copies where copy.row == row {
            store(attention, row, keys, in: copy.target, lane: copy.lane)
        }
    }

    /// A row's keys, and its values as they come of their product, into its place in a page.
    private func store(
        _ attention: Attention, _ row: Int, _ keys: UnsafePointer<Float>,
        in page: UnsafeMutablePointer<Float>, lane: Int
    ) {
        let (d, lane) = (attention.headSize, lane % Int(CK_PAGE_TOKENS))
        let (values, valueScale) = (products(attention.value, row), scale(of: attention.value, row))
        let firstKey = page + attention.layer * 2 * attention.keyWidth * Int(CK_PAGE_TOKENS)
        let firstValue = firstKey + attention.keyWidth * Int(CK_PAGE_TOKENS)
        for head in 0..<attention.keyHeads {
            let place = head * d * Int(CK_PAGE_TOKENS)
            ck_store_key(firstKey + place, keys + head * d, d, lane)
            kernels.pointee.scale(firstValue + place + lane * d, values + head * d, valueScale, d)
        }
    }
}
