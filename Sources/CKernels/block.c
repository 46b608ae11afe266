// SPDX-License-Identifier: Apache-2.0
//
// Makes a K4T block (CKernels.h describes it) of rows that lie apart. Moves bytes; needs no instruction set.
#include "CKernels.h"
#include <string.h>

/// Four groups of four columns.
typedef int32_t ck_groups __attribute__((vector_size(16)));

/// Groups g...g+3 of four rows: out[i][t] = rows[t][i].
static inline void ck_turn(const int8_t *rows, size_t stride, int8_t *out, size_t step) {
    ck_groups r[4], c[4];
    for (size_t t = 0; t < 4; t++) memcpy(&r[t], rows + t * stride, sizeof r[t]);
    const ck_groups a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5), b = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
    const ck_groups d = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5), e = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
    c[0] = __builtin_shufflevector(a, d, 0, 1, 4, 5);
    c[1] = __builtin_shufflevector(a, d, 2, 3, 6, 7);
    c[2] = __builtin_shufflevector(b, e, 0, 1, 4, 5);
    c[3] = __builtin_shufflevector(b, e, 2, 3, 6, 7);
    for (size_t i = 0; i < 4; i++) memcpy(out + i * step, &c[i], sizeof c[i]);
}

void ck_make_block(const int8_t *rows, size_t columns, size_t count, int8_t *out) {
    const size_t padded = ck_padded_columns(columns), step = 4 * count;
    size_t t = 0;
    for (; t + 4 <= count; t += 4) {
        const int8_t *from = rows + t * padded;
        size_t k = 0;
        for (; k + 16 <= padded; k += 16) ck_turn(from + k, padded, out + k * count + 4 * t, step);
        for (; k < padded; k += 4) {
            for (size_t i = 0; i < 4; i++) memcpy(out + k * count + 4 * (t + i), from + i * padded + k, 4);
        }
    }
    for (; t < count; t++) {
        for (size_t k = 0; k < padded; k += 4) memcpy(out + k * count + 4 * t, rows + t * padded + k, 4);
    }
}
