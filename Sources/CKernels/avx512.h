// SPDX-License-Identifier: Apache-2.0
//
// Products with 512-bit vpdpbusd: an accumulator holds one tile (16 rows) for one row of activations. Included by
// avx512vbmi.c and avx512vnni.c, which define how a vector of packed bytes comes apart:
//
//   ck_planes(bytes, plane)   five planes left where they are in the byte, times CK_WEIGHT(p): cheapest to get
//   ck_digits(bytes, digit)   five planes of digits 0...2: a little more work, but they can share one accumulator
//
// A few rows take the planes and an accumulator for each distinct weight, divided out at the end; many rows take the
// digits, whose extra work hides behind the products.
#pragma once
#include "weights.h"

enum {
    CK_PAIRS_FROM = 5,  ///< from this many rows on, two tiles share each broadcast
    CK_FEW = 4,         ///< up to this many rows, planes stay in place
};

CK_INLINE __m512i ck_broadcast(const int8_t *x) {
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

/// Divides out what a plane's place in the byte multiplied its sum by: exact, since the sum is a multiple of it.
CK_INLINE __m512i ck_divide(__m512i sum, int weight) {
    switch (weight) {
        case 1: return sum;
        case 4: return _mm512_srai_epi32(sum, 2);
        case 16: return _mm512_srai_epi32(sum, 4);
        case 64: return _mm512_srai_epi32(sum, 6);
        case 9: return _mm512_mullo_epi32(sum, _mm512_set1_epi32(CK_INVERSE_9));
        case 27: return _mm512_mullo_epi32(sum, _mm512_set1_epi32(CK_INVERSE_27));
        default: return _mm512_mullo_epi32(sum, _mm512_set1_epi32(CK_INVERSE_81));
    }
}

CK_INLINE void ck_few(const uint8_t *w, size_t vectors, const int8_t *x, size_t rows, const int32_t *sums, int32_t *y,
                      size_t stride) {
    __m512i acc[5][CK_FEW];
    for (size_t p = 0; p < 5; p++) {
        for (size_t t = 0; t < rows; t++) acc[p][t] = _mm512_setzero_si512();
    }
    for (size_t v = 0; v < vectors; v++, w += 64, x += 20 * rows) {
        ck_ask_ahead(w);
        __m512i plane[5];
        ck_planes(_mm512_loadu_si512(w), plane);
#pragma clang loop unroll(full)
        for (size_t p = 0; p < 5; p++) {
#pragma clang loop unroll(full)
            for (size_t t = 0; t < rows; t++) {
                acc[p][t] = _mm512_dpbusd_epi32(acc[p][t], plane[p], ck_broadcast(x + 4 * (p * rows + t)));
            }
        }
    }
    for (size_t t = 0; t < rows; t++) {
        __m512i sum = _mm512_set1_epi32(-sums[t]);
        for (size_t p = 0; p < 5; p++) sum = _mm512_add_epi32(sum, ck_divide(acc[p][t], CK_WEIGHT(p)));
        _mm512_storeu_si512(y + t * stride, sum);
    }
}

CK_INLINE void ck_many(const uint8_t *w, size_t vectors, size_t tiles, const int8_t *x, size_t rows,
                       const int32_t *sums, int32_t *y, size_t stride) {
    __m512i acc[2][CK_BLOCK];
    for (size_t i = 0; i < tiles; i++) {
        for (size_t t = 0; t < rows; t++) acc[i][t] = _mm512_setzero_si512();
    }
    const size_t bytes = vectors * CK_VECTOR_BYTES;
    for (size_t v = 0; v < vectors; v++, w += 64, x += 20 * rows) {
        __m512i digit[2][5];
        for (size_t i = 0; i < tiles; i++) {
            const uint8_t *from = w + i * bytes;
            // Behind a tile of a pair comes its neighbour; what is wanted next is the same place in the next pair.
            if (tiles == 2) {
                ck_ask(from + 2 * bytes);
            } else {
                ck_ask_ahead(from);
            }
            ck_digits(_mm512_loadu_si512(from), digit[i]);
        }
#pragma clang loop unroll(full)
        for (size_t p = 0; p < 5; p++) {
#pragma clang loop unroll(full)
            for (size_t t = 0; t < rows; t++) {
                const __m512i four = ck_broadcast(x + 4 * (p * rows + t));
                for (size_t i = 0; i < tiles; i++) acc[i][t] = _mm512_dpbusd_epi32(acc[i][t], digit[i][p], four);
            }
        }
    }
    for (size_t i = 0; i < tiles; i++) {
        for (size_t t = 0; t < rows; t++) {
            _mm512_storeu_si512(y + t * stride + i * CK_TILE_ROWS,
                                _mm512_sub_epi32(acc[i][t], _mm512_set1_epi32(sums[t])));
        }
    }
}

CK_INLINE void ck_tiles_by_rows(const uint8_t *w, size_t vectors, size_t tiles, const int8_t *x, size_t rows,
                                const int32_t *sums, int32_t *y, size_t stride) {
    if (rows <= CK_FEW) {
        ck_few(w, vectors, x, rows, sums, y, stride);
    } else {
        ck_many(w, vectors, tiles, x, rows, sums, y, stride);
    }
}

#include "blocks.h"

static uint64_t ck_dot_peak(uint64_t multiply_adds) {
    __m512i acc[16], a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
    for (size_t i = 0; i < 16; i++) acc[i] = _mm512_setzero_si512();
    const uint64_t rounds = multiply_adds / (16 * 64) + 1;
    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < 16; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
        __asm__ volatile("" : "+v"(a), "+v"(b));
    }
    for (size_t i = 0; i < 16; i++) __asm__ volatile("" : : "v"(acc[i]));
    return rounds * 16 * 64;
}
