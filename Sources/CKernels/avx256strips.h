// SPDX-License-Identifier: Apache-2.0
//
// More rows than the registers hold while bytes come apart in them: taking a byte apart costs half as much as multiplying its
// digits by eight rows, and sixteen registers leave no room to do both at once. So a strip of a tile comes apart first, into
// the first-level cache, and all rows pass over its digits. Before this is included there must be
//
//   CK_STRIP_ROWS, how many rows pass at once, 4 or 5, and
//   ck_strip(digits, count, x, step, rows, y, stride)
//
// which adds `count` vectors' digits by `rows` (1...CK_STRIP_ROWS, constant) rows to y; `step` bytes of x lie between one group of four
// columns and the next.
#pragma once
#include "avx256.h"

enum {
    CK_STRIP = 48,          ///< vectors that come apart at once: 15 KiB of digits
    CK_ROWS_AT_ONCE = 64,   ///< rows that pass over a tile before the next: their activations stay in the second-level cache
};

/// Digits of `count` vectors: plane p of vector v at (v * 5 + p) * 64.
static void ck_take_apart(const uint8_t *w, size_t count, uint8_t *digits) {
    for (size_t v = 0; v < count; v++, w += CK_VECTOR_BYTES, digits += 5 * CK_VECTOR_BYTES) {
        ck_ask_ahead(w);
        for (size_t h = 0; h < 64; h += 32) {
            __m256i digit[5];
            ck_digits(w + h, digit);
            for (size_t p = 0; p < 5; p++) _mm256_store_si256((__m256i *)(digits + 64 * p + h), digit[p]);
        }
    }
}

/// The same with the number of rows made a constant.
static void ck_strip_by_rows(const uint8_t *digits, size_t count, const int8_t *x, size_t step, size_t rows, int32_t *y,
                             size_t stride) {
    switch (rows) {
        case 1: return ck_strip(digits, count, x, step, 1, y, stride);
        case 2: return ck_strip(digits, count, x, step, 2, y, stride);
        case 3: return ck_strip(digits, count, x, step, 3, y, stride);
        case 4: return ck_strip(digits, count, x, step, 4, y, stride);
        default: return ck_strip(digits, count, x, step, CK_STRIP_ROWS, y, stride);
    }
}

/// One tile by T rows, strip by strip.
static void ck_tile(const uint8_t *tile, size_t vectors, const int8_t *values, const int32_t *sums, size_t T, int32_t *y,
                    size_t stride) {
    uint8_t digits[CK_STRIP * 5 * CK_VECTOR_BYTES] __attribute__((aligned(64)));
    for (size_t t = 0; t < T; t++) {
        for (size_t r = 0; r < CK_TILE_ROWS; r++) y[t * stride + r] = -sums[t];
    }
    for (size_t v = 0; v < vectors; v += CK_STRIP) {
        const size_t count = vectors - v < CK_STRIP ? vectors - v : CK_STRIP;
        ck_take_apart(tile + v * CK_VECTOR_BYTES, count, digits);
        for (size_t t = 0; t < T; t += CK_BLOCK) {
            const size_t rows = T - t < CK_BLOCK ? T - t : CK_BLOCK, step = rows * 4;
            const int8_t *x = values + t * vectors * CK_VECTOR_COLUMNS + v * CK_VECTOR_COLUMNS * rows;
            const size_t first = rows < CK_STRIP_ROWS ? rows : CK_STRIP_ROWS;
            ck_strip_by_rows(digits, count, x, step, first, y + t * stride, stride);
            if (rows == first) continue;
            ck_strip_by_rows(digits, count, x + 4 * first, step, rows - first, y + (t + first) * stride, stride);
        }
    }
}

/// Tiles tile_begin..<tile_end by T rows, as in `ck_table.matmul`.
static void ck_tiles_by_many(const uint8_t *packed, size_t columns, size_t tile_begin, size_t tile_end, const int8_t *values,
                             const int32_t *sums, size_t T, int32_t *y, size_t stride) {
    const size_t padded = ck_padded_columns(columns), vectors = padded / CK_VECTOR_COLUMNS;
    for (size_t t = 0; t < T; t += CK_ROWS_AT_ONCE) {
        const size_t rows = T - t < CK_ROWS_AT_ONCE ? T - t : CK_ROWS_AT_ONCE;
        for (size_t tile = tile_begin; tile < tile_end; tile++) {
            ck_tile(packed + tile * vectors * CK_VECTOR_BYTES, vectors, values + t * padded, sums + t, rows,
                    y + t * stride + tile * CK_TILE_ROWS, stride);
        }
    }
}
