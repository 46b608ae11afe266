// SPDX-License-Identifier: Apache-2.0
//
// AArch64 with the dot product extension (Cortex-A75, Neoverse N1, Apple M1 and later): sdot multiplies sixteen digits
// by the same four activations. A 64-byte vector of the layout is four quarters of four rows each.
#if defined(__aarch64__)
#include <arm_neon.h>

#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)

#include "rows.h"
#include "tables.h"
#include "weights.h"

enum {
    CK_PAIRS_FROM = CK_BLOCK + 1,  ///< never: thirty-two registers are enough for one tile
    CK_WHOLE = 4,                  ///< up to this many rows, all four quarters of a tile go in one walk
};

/// v mod m for v < 3m: of v, v - m and v - 2m the ones below zero wrap round to large values.
CK_INLINE uint8x16_t ck_mod(uint8x16_t v, int m) {
    const uint8x16_t less = vsubq_u8(v, vdupq_n_u8((uint8_t)m)), lesser = vsubq_u8(v, vdupq_n_u8((uint8_t)(2 * m)));
    return vminq_u8(v, vminq_u8(less, lesser));
}

static const uint8_t ck_digit_0[16] = {0, 1, 2, 0, 1, 2, 0, 1, 2};
static const uint8_t ck_digit_1[16] = {0, 0, 0, 1, 1, 1, 2, 2, 2};
static const uint8_t ck_digit_3[16] = {0, 1, 0, 2};

/// The lower two digits; 9 d2 and 27 d3 in place; the top digit (81 d4 would not fit the signed bytes sdot takes).
CK_INLINE void ck_planes(const uint8_t *bytes, int8x16_t *plane) {
    const uint8x16_t b = vld1q_u8(bytes), v4 = ck_mod(b, 81), v3 = ck_mod(v4, 27), v2 = ck_mod(v3, 9);
    plane[0] = vreinterpretq_s8_u8(vqtbl1q_u8(vld1q_u8(ck_digit_0), v2));
    plane[1] = vreinterpretq_s8_u8(vqtbl1q_u8(vld1q_u8(ck_digit_1), v2));
    plane[2] = vreinterpretq_s8_u8(vsubq_u8(v3, v2));
    plane[3] = vreinterpretq_s8_u8(vsubq_u8(v4, v3));
    plane[4] = vreinterpretq_s8_u8(vandq_u8(vsubq_u8(b, v4), vdupq_n_u8(3)));  // 81 & 3 = 1, 162 & 3 = 2
}

/// All five digits, 0...2.
CK_INLINE void ck_digits(const uint8_t *bytes, int8x16_t *digit) {
    ck_planes(bytes, digit);
    digit[2] = vandq_s8(digit[2], vdupq_n_s8(3));  // 9 & 3 = 1, 18 & 3 = 2
    // 27 >> 4 = 1, 54 >> 4 = 3.
    const uint8x16_t high = vreinterpretq_u8_s8(vshrq_n_s8(digit[3], 4));
    digit[3] = vreinterpretq_s8_u8(vqtbl1q_u8(vld1q_u8(ck_digit_3), high));
}

CK_INLINE int8x16_t ck_broadcast(const int8_t *x) {
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/// A whole tile by one row.
CK_INLINE void ck_one(const uint8_t *w, size_t vectors, const int8_t *x, const int32_t *sums, int32_t *y) {
    int32x4_t acc[4], nines[4], twenty_sevens[4];
    for (size_t i = 0; i < 4; i++) {
        acc[i] = vdupq_n_s32(-sums[0]);
        nines[i] = twenty_sevens[i] = vdupq_n_s32(0);
    }
    for (size_t v = 0; v < vectors; v++, w += CK_VECTOR_BYTES, x += 20) {
        ck_ask_ahead(w);
        const int8x16_t x0 = vld1q_s8(x), x4 = ck_broadcast(x + 16);
#pragma clang loop unroll(full)
        for (size_t i = 0; i < 4; i++) {
            int8x16_t plane[5];
            ck_planes(w + 16 * i, plane);
            acc[i] = vdotq_laneq_s32(acc[i], plane[0], x0, 0);
            nines[i] = vdotq_laneq_s32(nines[i], plane[2], x0, 2);
            twenty_sevens[i] = vdotq_laneq_s32(twenty_sevens[i], plane[3], x0, 3);
            acc[i] = vdotq_laneq_s32(acc[i], plane[1], x0, 1);
            acc[i] = vdotq_s32(acc[i], plane[4], x4);
        }
    }
    for (size_t i = 0; i < 4; i++) {
        int32x4_t sum = vmlaq_n_s32(acc[i], nines[i], CK_INVERSE_9);
        sum = vmlaq_n_s32(sum, twenty_sevens[i], CK_INVERSE_27);
        vst1q_s32(y + 4 * i, sum);
    }
}

/// `quarters` quarters of a tile (of four rows each) by `rows` rows.
CK_INLINE void ck_quarters(const uint8_t *w, size_t vectors, size_t quarters, const int8_t *x, size_t rows,
                           const int32_t *sums, int32_t *y, size_t stride) {
    int32x4_t acc[4][CK_BLOCK];
    for (size_t i = 0; i < quarters; i++) {
        for (size_t t = 0; t < rows; t++) acc[i][t] = vdupq_n_s32(-sums[t]);
    }
    for (size_t v = 0; v < vectors; v++, w += CK_VECTOR_BYTES, x += 20 * rows) {
        ck_ask_ahead(w);
#pragma clang loop unroll(full)
        for (size_t i = 0; i < quarters; i++) {
            int8x16_t digit[5];
            ck_digits(w + 16 * i, digit);
#pragma clang loop unroll(full)
            for (size_t p = 0; p < 5; p++) {
                const int8_t *from = x + 4 * p * rows;
#pragma clang loop unroll(full)
                for (size_t t = 0; t < rows; t++) {
                    if (t / 4 * 4 + 4 > rows) {
                        acc[i][t] = vdotq_s32(acc[i][t], digit[p], ck_broadcast(from + 4 * t));
                    } else if (t % 4 == 0) {
                        const int8x16_t four = vld1q_s8(from + 4 * t);
                        acc[i][t] = vdotq_laneq_s32(acc[i][t], digit[p], four, 0);
                        acc[i][t + 1] = vdotq_laneq_s32(acc[i][t + 1], digit[p], four, 1);
                        acc[i][t + 2] = vdotq_laneq_s32(acc[i][t + 2], digit[p], four, 2);
                        acc[i][t + 3] = vdotq_laneq_s32(acc[i][t + 3], digit[p], four, 3);
                    }
                }
            }
        }
    }
    for (size_t i = 0; i < quarters; i++) {
        for (size_t t = 0; t < rows; t++) vst1q_s32(y + t * stride + 4 * i, acc[i][t]);
    }
}

CK_INLINE void ck_tiles_by_rows(const uint8_t *w, size_t vectors, size_t tiles, const int8_t *x, size_t rows,
                                const int32_t *sums, int32_t *y, size_t stride) {
    (void)tiles;
    if (rows == 1) {
        ck_one(w, vectors, x, sums, y);
    } else if (rows <= CK_WHOLE) {
        ck_quarters(w, vectors, 4, x, rows, sums, y, stride);
    } else {
        // The second walk finds the tile in the first-level cache.
        ck_quarters(w, vectors, 2, x, rows, sums, y, stride);
        ck_quarters(w + 32, vectors, 2, x, rows, sums, y + 8, stride);
    }
}

#include "blocks.h"

static uint64_t ck_dot_peak(uint64_t multiply_adds) {
    int32x4_t acc[16];
    int8x16_t a = vdupq_n_s8(1), b = vdupq_n_s8(2);
    for (size_t i = 0; i < 16; i++) acc[i] = vdupq_n_s32(0);
    const uint64_t rounds = multiply_adds / (16 * 16) + 1;
    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < 16; i++) acc[i] = vdotq_s32(acc[i], a, b);
        __asm__ volatile("" : "+w"(a), "+w"(b));
    }
    for (size_t i = 0; i < 16; i++) __asm__ volatile("" : : "w"(acc[i]));
    return rounds * 16 * 16;
}

const ck_table ck_neon = {.name = "neon", .matmul = ck_matmul, .dot_peak = ck_dot_peak, CK_ROW_OPERATIONS};

#pragma clang attribute pop
#endif
