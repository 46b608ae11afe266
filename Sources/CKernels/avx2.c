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
    /// Vectors whose sums fit 16 bits: 12 vectors of 5 planes add at most 2 * 2 * 127 each, 30480 in all. This is why
    /// activations stay within ±127.
    CK_NARROW = 12,
    CK_STRIP_ROWS = 4,
};

/// Adds 16-bit sums of pairs to 32-bit sums.
CK_INLINE __m256i ck_widen(__m256i wide, __m256i narrow) {
    return _mm256_add_epi32(wide, _mm256_madd_epi16(narrow, _mm256_set1_epi16(1)));
}

CK_INLINE __m256i ck_dot(__m256i narrow, __m256i digit, __m256i four) {
    return _mm256_add_epi16(narrow, _mm256_maddubs_epi16(digit, four));
}

// ---------------------------------------------------------------- one row: bytes come apart in registers

static void ck_one(const uint8_t *w, size_t vectors, const int8_t *x, int32_t sum, int32_t *y) {
    __m256i wide[2] = {_mm256_set1_epi32(-sum), _mm256_set1_epi32(-sum)};
    while (vectors > 0) {
        const size_t part = vectors < CK_NARROW ? vectors : CK_NARROW;
        __m256i narrow[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
        for (size_t v = 0; v < part; v++, w += CK_VECTOR_BYTES, x += 20) {
            ck_ask_ahead(w);
#pragma clang loop unroll(full)
            for (size_t h = 0; h < 2; h++) {
                __m256i digit[5];
                ck_digits(w + 32 * h, digit);
                for (size_t p = 0; p < 5; p++) narrow[h] = ck_dot(narrow[h], digit[p], ck_broadcast(x + 4 * p));
            }
        }
        for (size_t h = 0; h < 2; h++) wide[h] = ck_widen(wide[h], narrow[h]);
        vectors -= part;
    }
    for (size_t h = 0; h < 2; h++) _mm256_storeu_si256((__m256i *)(y + 8 * h), wide[h]);
}

// ---------------------------------------------------------------- more rows: bytes come apart in the first-level cache

/// Adds `count` vectors' digits by `rows` (1...4, constant) rows to y; `step` bytes of x lie between one group of four
/// columns and the next.
CK_INLINE void ck_strip(const uint8_t *digits, size_t count, const int8_t *x, size_t step, size_t rows, int32_t *y,
                        size_t stride) {
    while (count > 0) {
        const size_t part = count < CK_NARROW ? count : CK_NARROW;
        __m256i narrow[2][4];
        for (size_t t = 0; t < rows; t++) narrow[0][t] = narrow[1][t] = _mm256_setzero_si256();
        for (size_t g = 0; g < part * 5; g++, digits += CK_VECTOR_BYTES, x += step) {
            const __m256i low = _mm256_load_si256((const __m256i *)digits);
            const __m256i high = _mm256_load_si256((const __m256i *)(digits + 32));
#pragma clang loop unroll(full)
            for (size_t t = 0; t < rows; t++) {
                const __m256i four = ck_broadcast(x + 4 * t);
                narrow[0][t] = ck_dot(narrow[0][t], low, four);
                narrow[1][t] = ck_dot(narrow[1][t], high, four);
            }
        }
        for (size_t t = 0; t < rows; t++) {
            for (size_t h = 0; h < 2; h++) {
                __m256i *to = (__m256i *)(y + t * stride + 8 * h);
                _mm256_storeu_si256(to, ck_widen(_mm256_loadu_si256(to), narrow[h][t]));
            }
        }
        count -= part;
    }
}

#include "avx256strips.h"

static void ck_matmul(const uint8_t *packed, size_t columns, size_t tile_begin, size_t tile_end, const int8_t *values,
                      const int32_t *sums, size_t T, int32_t *y, size_t stride) {
    if (T != 1) return ck_tiles_by_many(packed, columns, tile_begin, tile_end, values, sums, T, y, stride);
    const size_t vectors = ck_padded_columns(columns) / CK_VECTOR_COLUMNS;
    for (size_t tile = tile_begin; tile < tile_end; tile++) {
        ck_one(packed + tile * vectors * CK_VECTOR_BYTES, vectors, values, sums[0], y + tile * CK_TILE_ROWS);
    }
}

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
