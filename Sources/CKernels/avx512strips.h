// SPDX-License-Identifier: Apache-2.0
//
// Many rows on CPUs that take bytes apart and multiply in the same two 512-bit units: a strip of two tiles comes apart once,
// into the first-level cache, and all rows pass over its digits. Part of avx512.h.
#pragma once
#include "weights.h"

enum {
    CK_STRIP = 32,              ///< vectors of a pair of tiles that come apart at once: 20 KiB of digits
    CK_ROWS_BYTES = 512 << 10,  ///< activations that stay in the second-level cache while all tiles pass
};

/// Digits of `count` vectors of `tiles` tiles `bytes` apart: plane p of vector v of tile i at ((5 v + p) tiles + i) 64.
CK_INLINE void ck_take_apart(const uint8_t *w, size_t bytes, size_t count, size_t tiles, uint8_t *digits) {
    for (size_t v = 0; v < count; v++, w += CK_VECTOR_BYTES, digits += 5 * tiles * CK_VECTOR_BYTES) {
        for (size_t i = 0; i < tiles; i++) {
            ck_ask(w + (tiles + i) * bytes);
            const ck_parts parts = ck_open(w + i * bytes);
            for (size_t p = 0; p < 5; p++) {
                _mm512_store_si512(digits + (p * tiles + i) * CK_VECTOR_BYTES, ck_digit(p, parts));
            }
        }
    }
}

/// Adds the products of `count` vectors' digits and one block of rows to y, or for the first strip to -sums.
CK_INLINE void ck_strip(const uint8_t *digits, size_t count, size_t tiles, const int8_t *x, size_t rows,
                        const int32_t *sums, int first, int32_t *y, size_t stride) {
    // A product waits for the one before it in its accumulator, so there are enough of them for ten to be under way.
    const size_t sorts = rows <= 2 ? 5 : rows <= 4 ? 2 : 1;
    __m512i acc[2][CK_BLOCK][5];
    for (size_t i = 0; i < tiles; i++) {
        for (size_t t = 0; t < rows; t++) {
            acc[i][t][0] =
                first ? _mm512_set1_epi32(-sums[t]) : _mm512_loadu_si512(y + t * stride + i * CK_TILE_ROWS);
            for (size_t a = 1; a < sorts; a++) acc[i][t][a] = _mm512_setzero_si512();
        }
    }
    for (size_t v = 0; v < count; v++) {
#pragma clang loop unroll(full)
        for (size_t p = 0; p < 5; p++, digits += tiles * CK_VECTOR_BYTES, x += 4 * rows) {
            __m512i digit[2];
            for (size_t i = 0; i < tiles; i++) digit[i] = _mm512_load_si512(digits + i * CK_VECTOR_BYTES);
#pragma clang loop unroll(full)
            for (size_t t = 0; t < rows; t++) {
                const __m512i four = ck_broadcast(x + 4 * t);
                for (size_t i = 0; i < tiles; i++) {
                    __m512i *to = &acc[i][t][p % sorts];
                    *to = _mm512_dpbusd_epi32(*to, digit[i], four);
                }
            }
        }
    }
    for (size_t i = 0; i < tiles; i++) {
        for (size_t t = 0; t < rows; t++) {
            __m512i sum = acc[i][t][0];
            for (size_t a = 1; a < sorts; a++) sum = _mm512_add_epi32(sum, acc[i][t][a]);
            _mm512_storeu_si512(y + t * stride + i * CK_TILE_ROWS, sum);
        }
    }
}

/// The same with the number of rows made a constant.
CK_INLINE void ck_strip_by_rows(const uint8_t *digits, size_t count, size_t tiles, const int8_t *x, size_t rows,
                                const int32_t *sums, int first, int32_t *y, size_t stride) {
    switch (rows) {
        case 1: return ck_strip(digits, count, tiles, x, 1, sums, first, y, stride);
        case 2: return ck_strip(digits, count, tiles, x, 2, sums, first, y, stride);
        case 3: return ck_strip(digits, count, tiles, x, 3, sums, first, y, stride);
        case 4: return ck_strip(digits, count, tiles, x, 4, sums, first, y, stride);
        case 5: return ck_strip(digits, count, tiles, x, 5, sums, first, y, stride);
        case 6: return ck_strip(digits, count, tiles, x, 6, sums, first, y, stride);
        case 7: return ck_strip(digits, count, tiles, x, 7, sums, first, y, stride);
        default: return ck_strip(digits, count, tiles, x, 8, sums, first, y, stride);
    }
}

/// One or two tiles by T rows, strip by strip.
CK_INLINE void ck_tiles_by_many(const uint8_t *w, size_t vectors, size_t tiles, const int8_t *values, const int32_t *sums,
                                size_t T, int32_t *y, size_t stride) {
    uint8_t digits[CK_STRIP * 2 * 5 * CK_VECTOR_BYTES] __attribute__((aligned(64)));
    for (size_t v = 0; v < vectors; v += CK_STRIP) {
        const size_t count = vectors - v < CK_STRIP ? vectors - v : CK_STRIP;
        ck_take_apart(w + v * CK_VECTOR_BYTES, vectors * CK_VECTOR_BYTES, count, tiles, digits);
        for (size_t t = 0; t < T; t += CK_BLOCK) {
            const size_t rows = T - t < CK_BLOCK ? T - t : CK_BLOCK;
            const int8_t *x = values + t * vectors * CK_VECTOR_COLUMNS + v * CK_VECTOR_COLUMNS * rows;
            ck_strip_by_rows(digits, count, tiles, x, rows, sums + t, v == 0, y + t * stride, stride);
        }
    }
}

static void ck_two_tiles(const uint8_t *w, size_t vectors, const int8_t *values, const int32_t *sums, size_t T, int32_t *y,
                         size_t stride) {
    ck_tiles_by_many(w, vectors, 2, values, sums, T, y, stride);
}
static void ck_one_tile(const uint8_t *w, size_t vectors, const int8_t *values, const int32_t *sums, size_t T, int32_t *y,
                        size_t stride) {
    ck_tiles_by_many(w, vectors, 1, values, sums, T, y, stride);
}

static void ck_product(const uint8_t *packed, size_t columns, size_t tile_begin, size_t tile_end, const int8_t *values,
                       const int32_t *sums, size_t T, int32_t *y, size_t stride) {
    if (T < CK_STRIPS_FROM && columns <= CK_IN_PLACE_MOST) {
        return ck_matmul(packed, columns, tile_begin, tile_end, values, sums, T, y, stride);
    }
    const size_t padded = ck_padded_columns(columns), vectors = padded / CK_VECTOR_COLUMNS;
    const size_t most = CK_ROWS_BYTES / padded / CK_BLOCK * CK_BLOCK, at_once = most < CK_BLOCK ? CK_BLOCK : most;
    for (size_t t = 0; t < T; t += at_once) {
        const size_t rows = T - t < at_once ? T - t : at_once;
        const int8_t *x = values + t * padded;
        for (size_t tile = tile_begin; tile < tile_end; tile += 2) {
            const uint8_t *w = packed + tile * vectors * CK_VECTOR_BYTES;
            int32_t *to = y + t * stride + tile * CK_TILE_ROWS;
            (tile + 2 <= tile_end ? ck_two_tiles : ck_one_tile)(w, vectors, x, sums + t, rows, to, stride);
        }
    }
}
