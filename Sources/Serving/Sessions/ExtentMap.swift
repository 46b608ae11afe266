// SPDX-License-Identifier: Apache-2.0

/// Which parts of a file are free, in pages. First fit; neighbours that are free are one.
struct ExtentMap {
    /// Ascending, none empty, no two that touch.
    private(set) var free: [Range<Int>]

    init(pages: Range<Int>) { free = pages.isEmpty ? [] : [pages] }

    mutating func take(_ count: Int) -> Range<Int>? {
        guard count > 0, let index = free.firstIndex(where: { $0.count >= count }) else {
            return nil
        }
        let extent = free[index].lowerBound..<free[index].lowerBound + count
        remove(extent, from: index)
        return extent
    }

    /// Takes certain pages.
    ///
    /// - Returns: false if some of them are taken or do not exist.
    mutating func take(_ extent: Range<Int>) -> Bool {
        guard !extent.isEmpty,
            let index = free.firstIndex(where: {
                $0.lowerBound <= extent.lowerBound && extent.upperBound <= $0.upperBound
            })
        else { return false }
        remove(extent, from: index)
        return true
    }

    mutating func give(back extent: Range<Int>) {
        let index = free.firstIndex { $0.lowerBound > extent.lowerBound } ?? free.count
        free.insert(extent, at: index)
        if index + 1 < free.count, free[index].upperBound == free[index + 1].lowerBound {
            free[index] = free[index].lowerBound..<free.remove(at: index + 1).upperBound
        }
        if index > 0, free[index - 1].upperBound == free[index].lowerBound {
            free[index - 1] = free[index - 1].lowerBound..<free.remove(at: index).upperBound
        }
    }

    private mutating func remove(_ extent: Range<Int>, from index: Int) {
        let whole = free[index]
        let parts = [
            whole.lowerBound..<extent.lowerBound, extent.upperBound..<whole.upperBound,
        ].filter { !$0.isEmpty }
        free.replaceSubrange(index...index, with: parts)
    }
}
