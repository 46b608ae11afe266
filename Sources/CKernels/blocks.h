// SPDX-License-Identifier: Apache-2.0
//
// The loops around the register kernels: which tiles meet which rows, in which order. An instruction set's file defines
// CK_PAIRS_FROM (from how many rows on it wants two tiles at a time) and
//
//   ck_tiles_by_rows(w, vectors, tiles, x, rows, sums, y, stride)
//
// the product of `tiles` (1 or 2) adjacent tiles from `w` on with a block of `rows` (1...CK_BLOCK) rows, all constants;
// y points at the first tile's column of the block's first row. Then it includes this and gets ck_matmul.
#pragma once
#include "weights.h"

#pragma clang assume_nonnull begin

/// Tiles that stay in the second-level cache while every block of rows passes over them, in bytes.
enum { CK_CHUNK_BYTES = 256 << 10 };

/// Tiles begin..<end with one block of rows; two tiles at a time when `pairs`.
CK_INLINE void ck_walk(const uint8_t *packed, size_t vectors, size_t begin, size_t end, const int8_t *x, size_t rows,
                       const int32_t *sums, int32_t *y, size_t stride, int pairs) {
    const size_t bytes = vectors * CK_VECTOR_BYTES;
    size_t tile = begin;
    if (pairs) {
        for (; tile + 2 <= end; tile += 2) {
            ck_tiles_by_rows(packed + tile * bytes, vectors, 2, x, rows, sums, y + tile * CK_TILE_ROWS, stride);
        }
    }
    for (; tile < end; tile++) {
        ck_tiles_by_rows(packed + tile * bytes, vectors, 1, x, rows, sums, y + tile * CK_TILE_ROWS, stride);
    }
}

/// The same, with the number of rows made a constant.
static void ck_block(const uint8_t *packed, size_t vectors, size_t begin, size_t end, const int8_t *x, size_t rows,
                     const int32_t *sums, int32_t *y, size_t stride) {
    switch (rows) {
        case 1: return ck_walk(packed, vectors, begin, end, x, 1, sums, y, stride, CK_PAIRS_FROM <= 1);
        case 2: return ck_walk(packed, vectors, begin, end, x, 2, sums, y, stride, CK_PAIRS_FROM <= 2);
        case 3: return ck_walk(packed, vectors, begin, end, x, 3, sums, y, stride, CK_PAIRS_FROM <= 3);
        case 4: return ck_walk(packed, vectors, begin, end, x, 4, sums, y, stride, CK_PAIRS_FROM <= 4);
        case 5: return ck_walk(packed, vectors, begin, end, x, 5, sums, y, stride, CK_PAIRS_FROM <= 5);
        case 6: return ck_walk(packed, vectors, begin, end, x, 6, sums, y, stride, CK_PAIRS_FROM <= 6);
        case 7: return ck_walk(packed, vectors, begin, end, x, 7, sums, y, stride, CK_PAIRS_FROM <= 7);
        default: return ck_walk(packed, vectors, begin, end, x, 8, sums, y, stride, CK_PAIRS_FROM <= 8);
    }
}

static void ck_matmul(const uint8_t *packed, size_t columns, size_t tile_begin, size_t tile_end, const int8_t *values,
                      const int32_t *sums, size_t T, int32_t *y, size_t stride) {
    const size_t padded = ck_padded_columns(columns), vectors = padded / CK_VECTOR_COLUMNS;
    size_t chunk = CK_CHUNK_BYTES / (vectors * CK_VECTOR_BYTES) & ~(size_t)1;
    if (chunk < 2) chunk = 2;
    if (T <= CK_BLOCK) chunk = tile_end - tile_begin;  // one block: nothing to keep, one stream
    for (size_t begin = tile_begin; begin < tile_end; begin += chunk) {
        const size_t end = tile_end - begin < chunk ? tile_end : begin + chunk;
        for (size_t t = 0; t < T; t += CK_BLOCK) {
            ck_block(packed, vectors, begin, end, values + t * padded, T - t < CK_BLOCK ? T - t : CK_BLOCK, sums + t,
                     y + t * stride, stride);
        }
    }
}

#pragma clang assume_nonnull end
