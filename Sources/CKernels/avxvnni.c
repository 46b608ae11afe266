// SPDX-License-Identifier: Apache-2.0
//
// AVX2 with AVX-VNNI (Alder Lake, Sierra Forest, Zen 5 and later): 256-bit vpdpbusd in its VEX encoding.
#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx2,fma,avxvnni,bmi,bmi2"))), apply_to = function)

#include "avx256.h"
#include "rows.h"
#include "tables.h"

enum {
    CK_PAIRS_FROM = CK_BLOCK + 1,  ///< never: sixteen registers hold no two tiles
    CK_BOTH_HALVES = 4,            ///< up to this many rows, both halves of a tile go in one walk
};

/// A whole tile by one row: planes in place save the work of making them digits.
CK_INLINE void ck_one(const uint8_t *w, size_t vectors, const int8_t *x, const int32_t *sums, int32_t *y) {
    __m256i acc[2][4];
    for (size_t h = 0; h < 2; h++) {
        acc[h][0] = _mm256_set1_epi32(-sums[0]);
        for (size_t i = 1; i < 4; i++) acc[h][i] = _mm256_setzero_si256();
    }
    for (size_t v = 0; v < vectors; v++, w += CK_VECTOR_BYTES, x += 20) {
        ck_ask_ahead(w);
#pragma clang loop unroll(full)
        for (size_t h = 0; h < 2; h++) {
            __m256i plane[5];
            ck_planes(w + 32 * h, plane);
            acc[h][0] = _mm256_dpbusd_avx_epi32(acc[h][0], plane[0], ck_broadcast(x));
            acc[h][1] = _mm256_dpbusd_avx_epi32(acc[h][1], plane[2], ck_broadcast(x + 8));
            acc[h][2] = _mm256_dpbusd_avx_epi32(acc[h][2], plane[3], ck_broadcast(x + 12));
            acc[h][3] = _mm256_dpbusd_avx_epi32(acc[h][3], plane[4], ck_broadcast(x + 16));
            acc[h][0] = _mm256_dpbusd_avx_epi32(acc[h][0], plane[1], ck_broadcast(x + 4));
        }
    }
    for (size_t h = 0; h < 2; h++) {
        __m256i sum = _mm256_add_epi32(acc[h][0], _mm256_mullo_epi32(acc[h][1], _mm256_set1_epi32(CK_INVERSE_9)));
        sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(acc[h][2], _mm256_set1_epi32(CK_INVERSE_27)));
        sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(acc[h][3], _mm256_set1_epi32(CK_INVERSE_81)));
        _mm256_storeu_si256((__m256i *)(y + 8 * h), sum);
    }
}

/// `halves` halves of a tile (of eight rows each) by `rows` rows.
CK_INLINE void ck_halves(const uint8_t *w, size_t vectors, size_t halves, const int8_t *x, size_t rows,
                         const int32_t *sums, int32_t *y, size_t stride) {
    __m256i acc[2][CK_BLOCK];
    for (size_t h = 0; h < halves; h++) {
        for (size_t t = 0; t < rows; t++) acc[h][t] = _mm256_set1_epi32(-sums[t]);
    }
    for (size_t v = 0; v < vectors; v++, w += CK_VECTOR_BYTES, x += 20 * rows) {
        ck_ask_ahead(w);
#pragma clang loop unroll(full)
        for (size_t h = 0; h < halves; h++) {
            __m256i digit[5];
            ck_digits(w + 32 * h, digit);
#pragma clang loop unroll(full)
            for (size_t p = 0; p < 5; p++) {
#pragma clang loop unroll(full)
                for (size_t t = 0; t < rows; t++) {
                    acc[h][t] = _mm256_dpbusd_avx_epi32(acc[h][t], digit[p], ck_broadcast(x + 4 * (p * rows + t)));
                }
            }
        }
    }
    for (size_t h = 0; h < halves; h++) {
        for (size_t t = 0; t < rows; t++) _mm256_storeu_si256((__m256i *)(y + t * stride + 8 * h), acc[h][t]);
    }
}

CK_INLINE void ck_tiles_by_rows(const uint8_t *w, size_t vectors, size_t tiles, const int8_t *x, size_t rows,
                                const int32_t *sums, int32_t *y, size_t stride) {
    (void)tiles;
    if (rows == 1) {
        ck_one(w, vectors, x, sums, y);
    } else if (rows <= CK_BOTH_HALVES) {
        ck_halves(w, vectors, 2, x, rows, sums, y, stride);
    } else {
        // The second walk finds the tile in the first-level cache.
        ck_halves(w, vectors, 1, x, rows, sums, y, stride);
        ck_halves(w + 32, vectors, 1, x, rows, sums, y + 8, stride);
    }
}

#include "blocks.h"

static uint64_t ck_dot_peak(uint64_t multiply_adds) {
    __m256i acc[12], a = _mm256_set1_epi8(1), b = _mm256_set1_epi8(2);
    for (size_t i = 0; i < 12; i++) acc[i] = _mm256_setzero_si256();
    const uint64_t rounds = multiply_adds / (12 * 32) + 1;
    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < 12; i++) acc[i] = _mm256_dpbusd_avx_epi32(acc[i], a, b);
        __asm__ volatile("" : "+x"(a), "+x"(b));
    }
    for (size_t i = 0; i < 12; i++) __asm__ volatile("" : : "x"(acc[i]));
    return rounds * 12 * 32;
}

const ck_table ck_avxvnni = {.name = "avxvnni", .matmul = ck_matmul, .dot_peak = ck_dot_peak, CK_ROW_OPERATIONS};

#pragma clang attribute pop
#endif
