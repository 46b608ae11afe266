// SPDX-License-Identifier: Apache-2.0
//
// AVX2 and FMA (Haswell, Zen and later): vpmaddubsw multiplies digits by activations and adds pairs into 16 bits.
#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)

#include "avx256.h"
#include "rows.h"
#include "tables.h"

enum {
    CK_PAIRS_FROM = CK_BLOCK + 1,  ///< never: sixteen registers hold no two tiles
    CK_BOTH_HALVES = 2,            ///< up to this many rows, both halves of a tile go in one walk
    /// Vectors whose sums fit 16 bits: 12 vectors of 5 planes add at most 2 * 2 * 127 each, 30480 in all. This is why
    /// activations stay within ±127.
    CK_NARROW = 12,
};

/// `halves` halves of a tile (of eight rows each) by `rows` rows.
CK_INLINE void ck_halves(const uint8_t *w, size_t vectors, size_t halves, const int8_t *x, size_t rows,
                         const int32_t *sums, int32_t *y, size_t stride) {
    const __m256i one = _mm256_set1_epi16(1);
    __m256i wide[2][CK_BLOCK];
    for (size_t h = 0; h < halves; h++) {
        for (size_t t = 0; t < rows; t++) wide[h][t] = _mm256_set1_epi32(-sums[t]);
    }
    while (vectors > 0) {
        const size_t part = vectors < CK_NARROW ? vectors : CK_NARROW;
        __m256i narrow[2][CK_BLOCK];
        for (size_t h = 0; h < halves; h++) {
            for (size_t t = 0; t < rows; t++) narrow[h][t] = _mm256_setzero_si256();
        }
        for (size_t v = 0; v < part; v++, w += CK_VECTOR_BYTES, x += 20 * rows) {
            ck_ask_ahead(w);
#pragma clang loop unroll(full)
            for (size_t h = 0; h < halves; h++) {
                __m256i digit[5];
                ck_digits(w + 32 * h, digit);
#pragma clang loop unroll(full)
                for (size_t p = 0; p < 5; p++) {
#pragma clang loop unroll(full)
                    for (size_t t = 0; t < rows; t++) {
                        const __m256i pairs = _mm256_maddubs_epi16(digit[p], ck_broadcast(x + 4 * (p * rows + t)));
                        narrow[h][t] = _mm256_add_epi16(narrow[h][t], pairs);
                    }
                }
            }
        }
        for (size_t h = 0; h < halves; h++) {
            for (size_t t = 0; t < rows; t++) {
                wide[h][t] = _mm256_add_epi32(wide[h][t], _mm256_madd_epi16(narrow[h][t], one));
            }
        }
        vectors -= part;
    }
    for (size_t h = 0; h < halves; h++) {
        for (size_t t = 0; t < rows; t++) _mm256_storeu_si256((__m256i *)(y + t * stride + 8 * h), wide[h][t]);
    }
}

CK_INLINE void ck_tiles_by_rows(const uint8_t *w, size_t vectors, size_t tiles, const int8_t *x, size_t rows,
                                const int32_t *sums, int32_t *y, size_t stride) {
    (void)tiles;
    if (rows <= CK_BOTH_HALVES) {
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
        for (size_t i = 0; i < 12; i++) {
            __m256i c = a;
            __asm__ volatile("" : "+x"(c));  // twelve products, not one
            acc[i] = _mm256_add_epi16(acc[i], _mm256_maddubs_epi16(c, b));
        }
    }
    for (size_t i = 0; i < 12; i++) __asm__ volatile("" : : "x"(acc[i]));
    return rounds * 12 * 32;
}

const ck_table ck_avx2 = {.name = "avx2", .matmul = ck_matmul, .dot_peak = ck_dot_peak, CK_ROW_OPERATIONS};

#pragma clang attribute pop
#endif
