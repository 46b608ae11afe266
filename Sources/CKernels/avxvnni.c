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
    CK_FEW = 4,         ///< up to this many rows, bytes come apart in registers
    CK_STRIP_ROWS = 5,  ///< with both halves of a tile, ten sums: as many products as can be under way
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

/// A whole tile by `rows` (2...CK_FEW) rows.
CK_INLINE void ck_few(const uint8_t *w, size_t vectors, const int8_t *x, size_t rows, const int32_t *sums, int32_t *y,
                      size_t stride) {
    __m256i acc[2][CK_FEW];
    for (size_t t = 0; t < rows; t++) acc[0][t] = acc[1][t] = _mm256_set1_epi32(-sums[t]);
    for (size_t v = 0; v < vectors; v++, w += CK_VECTOR_BYTES, x += 20 * rows) {
        ck_ask_ahead(w);
#pragma clang loop unroll(full)
        for (size_t h = 0; h < 2; h++) {
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
    for (size_t h = 0; h < 2; h++) {
        for (size_t t = 0; t < rows; t++) _mm256_storeu_si256((__m256i *)(y + t * stride + 8 * h), acc[h][t]);
    }
}

// ---------------------------------------------------------------- many rows

CK_INLINE void ck_strip(const uint8_t *digits, size_t count, const int8_t *x, size_t step, size_t rows, int32_t *y,
                        size_t stride) {
    // A product waits for the one before it in its accumulator, so there are enough of them for ten to be under way.
    const size_t sorts = rows == 1 ? 5 : rows == 2 ? 3 : rows == 3 ? 2 : 1;
    __m256i acc[2][CK_STRIP_ROWS][5];
    for (size_t t = 0; t < rows; t++) {
        for (size_t h = 0; h < 2; h++) {
            acc[h][t][0] = _mm256_loadu_si256((const __m256i *)(y + t * stride + 8 * h));
            for (size_t a = 1; a < sorts; a++) acc[h][t][a] = _mm256_setzero_si256();
        }
    }
    for (size_t v = 0; v < count; v++) {
#pragma clang loop unroll(full)
        for (size_t p = 0; p < 5; p++, digits += CK_VECTOR_BYTES, x += step) {
            const __m256i low = _mm256_load_si256((const __m256i *)digits);
            const __m256i high = _mm256_load_si256((const __m256i *)(digits + 32));
#pragma clang loop unroll(full)
            for (size_t t = 0; t < rows; t++) {
                const __m256i four = ck_broadcast(x + 4 * t);
                acc[0][t][p % sorts] = _mm256_dpbusd_avx_epi32(acc[0][t][p % sorts], low, four);
                acc[1][t][p % sorts] = _mm256_dpbusd_avx_epi32(acc[1][t][p % sorts], high, four);
            }
        }
    }
    for (size_t t = 0; t < rows; t++) {
        for (size_t h = 0; h < 2; h++) {
            __m256i sum = acc[h][t][0];
            for (size_t a = 1; a < sorts; a++) sum = _mm256_add_epi32(sum, acc[h][t][a]);
            _mm256_storeu_si256((__m256i *)(y + t * stride + 8 * h), sum);
        }
    }
}

#include "avx256strips.h"

static void ck_matmul(const uint8_t *packed, size_t columns, size_t tile_begin, size_t tile_end, const int8_t *values,
                      const int32_t *sums, size_t T, int32_t *y, size_t stride) {
    if (T == 0 || T > CK_FEW) {
        return ck_tiles_by_many(packed, columns, tile_begin, tile_end, values, sums, T, y, stride);
    }
    const size_t vectors = ck_padded_columns(columns) / CK_VECTOR_COLUMNS;
    for (size_t tile = tile_begin; tile < tile_end; tile++) {
        const uint8_t *w = packed + tile * vectors * CK_VECTOR_BYTES;
        int32_t *to = y + tile * CK_TILE_ROWS;
        switch (T) {
            case 1: ck_one(w, vectors, values, sums, to); break;
            case 2: ck_few(w, vectors, values, 2, sums, to, stride); break;
            case 3: ck_few(w, vectors, values, 3, sums, to, stride); break;
            default: ck_few(w, vectors, values, CK_FEW, sums, to, stride); break;
        }
    }
}

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
