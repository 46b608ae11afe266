// SPDX-License-Identifier: Apache-2.0
//
// The reference table: no instruction beyond the compiler's baseline, and products spelled out as the layout says.
#include "rows.h"

static void ck_scalar_block(const uint8_t *tile, size_t vectors, const int8_t *x, size_t rows, const int32_t *sums,
                            int32_t *y, size_t stride) {
    int32_t acc[CK_BLOCK][CK_TILE_ROWS] = {{0}};
    for (size_t v = 0; v < vectors; v++, tile += CK_VECTOR_BYTES) {
        unsigned rest[CK_VECTOR_BYTES];
        for (size_t i = 0; i < CK_VECTOR_BYTES; i++) rest[i] = tile[i];
        for (size_t p = 0; p < 5; p++, x += rows * 4) {
            int32_t digit[CK_VECTOR_BYTES];
            for (size_t i = 0; i < CK_VECTOR_BYTES; i++) {
                const unsigned third = rest[i] * 171 >> 9;  // rest / 3, below 512
                digit[i] = (int32_t)(rest[i] - third * 3);
                rest[i] = third;
            }
            for (size_t t = 0; t < rows; t++) {
                const int8_t *q = x + t * 4;
                for (size_t r = 0; r < CK_TILE_ROWS; r++) {
                    const int32_t *d = digit + r * 4;
                    acc[t][r] += d[0] * q[0] + d[1] * q[1] + d[2] * q[2] + d[3] * q[3];
                }
            }
        }
    }
    // Digits are trit + 1, so each product came out larger by the sum of the activations.
    for (size_t t = 0; t < rows; t++) {
        for (size_t r = 0; r < CK_TILE_ROWS; r++) y[t * stride + r] = acc[t][r] - sums[t];
    }
}

static void ck_scalar_matmul(const uint8_t *packed, size_t columns, size_t tile_begin, size_t tile_end,
                             const int8_t *values, const int32_t *sums, size_t T, int32_t *y, size_t stride) {
    const size_t padded = ck_padded_columns(columns), vectors = padded / CK_VECTOR_COLUMNS;
    for (size_t tile = tile_begin; tile < tile_end; tile++) {
        for (size_t t = 0; t < T; t += CK_BLOCK) {
            ck_scalar_block(packed + tile * vectors * CK_VECTOR_BYTES, vectors, values + t * padded,
                            T - t < CK_BLOCK ? T - t : CK_BLOCK, sums + t, y + t * stride + tile * CK_TILE_ROWS, stride);
        }
    }
}

static uint64_t ck_scalar_dot_peak(uint64_t multiply_adds) {
    int32_t acc[16] = {0};
    const uint64_t rounds = (multiply_adds + 15) / 16;
    for (uint64_t i = 0; i < rounds; i++) {
        int32_t a = (int32_t)i;
        __asm__ volatile("" : "+r"(a));
        for (int32_t k = 0; k < 16; k++) acc[k] += (int8_t)a * (k + 1);
    }
    for (size_t k = 0; k < 16; k++) __asm__ volatile("" : : "r"(acc[k]));
    return rounds * 16;
}

const ck_table ck_scalar = {
    .name = "scalar", .matmul = ck_scalar_matmul, .dot_peak = ck_scalar_dot_peak, CK_ROW_OPERATIONS};
