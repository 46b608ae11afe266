// SPDX-License-Identifier: Apache-2.0
//
// Dense rows in their stored form times vectors of floats. Part of rows.h: compiled once per table.
#pragma once
#include "rows.h"

#pragma clang assume_nonnull begin

enum {
    CK_STRETCH = 64,          ///< values decoded together: once through the four sums
    CK_DENSE_COLUMNS = 1024,  ///< of a row are decoded at a time, where several vectors share them
    CK_DENSE_VECTORS = 8,     ///< that share them
};

/// Bytes that `n` values take; n is a multiple of CK_STRETCH or the length of a row.
CK_INLINE size_t ck_dense_bytes(enum ck_encoding encoding, size_t n) {
    return encoding == CK_F32 ? n * 4 : encoding == CK_Q6 ? ck_q6_row_bytes(n) : n * 2;
}

typedef uint32_t ck_words __attribute__((vector_size(64)));

/// Sixteen codes of a q6 block. A code's byte pair is brought to the low end of its lane; there it is masked and, with the
/// exponent of 2^23 above it, read as a float: 2^23 + code * 2^shift. Every step is exact.
CK_INLINE ck_f32 ck_q6_sixteen(const uint8_t *codes, ck_f32 scale) {
    typedef uint8_t sixteen __attribute__((vector_size(16)));
    typedef uint8_t bytes __attribute__((vector_size(64)));
    sixteen v;
    __builtin_memcpy(&v, codes, sizeof v);
    // Bits of codes 0...3 of a group: 0-5 of byte 0, 6-11 of bytes 0 and 1, 4-9 of bytes 1 and 2, 2-7 of byte 2.
#define CK_GROUP(g) 3 * (g), 3 * (g), 3 * (g), 3 * (g), 3 * (g), 3 * (g) + 1, 3 * (g), 3 * (g), \
    3 * (g) + 1, 3 * (g) + 2, 3 * (g), 3 * (g), 3 * (g) + 2, 3 * (g) + 2, 3 * (g), 3 * (g)
    const bytes spread = __builtin_shufflevector(v, v, CK_GROUP(0), CK_GROUP(1), CK_GROUP(2), CK_GROUP(3));
#undef CK_GROUP
#define CK_FOUR(a, b, c, d) {a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d}
    const ck_words mask = CK_FOUR(63, 63 << 6, 63 << 4, 63 << 2);
    const ck_f32 zero = CK_FOUR(0x1p23f + 32, 0x1p23f + 32 * 64, 0x1p23f + 32 * 16, 0x1p23f + 32 * 4);
    const ck_f32 unit = CK_FOUR(1, 0x1p-6f, 0x1p-4f, 0x1p-2f);
#undef CK_FOUR
    return ((ck_f32)(((ck_words)spread & mask) | 0x4b000000u) - zero) * (scale * unit);
}

/// 64 stored values as floats.
CK_INLINE void ck_dense_decode(enum ck_encoding encoding, const uint8_t *row, ck_f32 *w) {
    if (encoding == CK_Q6) {
        uint16_t halves[2];
        __builtin_memcpy(halves, row + 48, sizeof halves);
        float scales[2];
        ck_row_widen_f16(halves, 2, scales);
#pragma clang loop unroll(full)
        for (size_t j = 0; j < 4; j++) w[j] = ck_q6_sixteen(row + 12 * j, ck_all(scales[j / 2]));
        return;
    }
#pragma clang loop unroll(full)
    for (size_t j = 0; j < 4; j++) {
        if (encoding == CK_F32) {
            __builtin_memcpy(&w[j], row + 64 * j, sizeof w[j]);
            continue;
        }
        typedef uint16_t halves __attribute__((vector_size(32)));
        halves h;
        __builtin_memcpy(&h, row + 32 * j, sizeof h);
        const ck_words bits = __builtin_convertvector(h, ck_words);
        if (encoding == CK_BF16) {
            w[j] = (ck_f32)(bits << 16);
        } else {
            const ck_words rest = (bits & 0x7fff) << 13, sign = (bits & 0x8000) << 16;
            const ck_words finite = (ck_words)((ck_f32)rest * 0x1p112f);  // moves the exponent, subnormals included
            w[j] = (ck_f32)((ck_words)ck_select(rest >= 0x0f800000u, (ck_f32)(rest | 0x7f800000u), (ck_f32)finite) | sign);
        }
    }
}

/// The last `left` < 64 values of a row, and zeros.
CK_INLINE void ck_dense_decode_end(enum ck_encoding encoding, const uint8_t *row, size_t left, ck_f32 *w) {
    uint8_t part[CK_STRETCH * 4] = {0};
    float values[CK_STRETCH];
    __builtin_memcpy(part, row, ck_dense_bytes(encoding, left));
    ck_dense_decode(encoding, part, w);
    __builtin_memcpy(values, w, sizeof values);
    for (size_t i = left; i < CK_STRETCH; i++) values[i] = 0;  // whatever pads a block of q6
    __builtin_memcpy(w, values, sizeof values);
}

/// Adds 64 products to four sums; left: elements of x from there on.
CK_INLINE void ck_dense_add(const ck_f32 *w, const float *x, size_t left, ck_f32 *s) {
    if (left >= CK_STRETCH) {
#pragma clang loop unroll(full)
        for (size_t j = 0; j < 4; j++) s[j] = ck_fma(w[j], ck_load(x + CK_LANES * j, CK_LANES), s[j]);
        return;
    }
    float values[CK_STRETCH] = {0};
    __builtin_memcpy(values, x, left * sizeof *x);
    for (size_t j = 0; j < 4; j++) s[j] = ck_fma(w[j], ck_load(values + CK_LANES * j, CK_LANES), s[j]);
}

/// One row times one vector, decoded in registers.
CK_INLINE float ck_dense_one(enum ck_encoding encoding, const uint8_t *row, size_t n, const float *x) {
    ck_f32 s[4] = {{0}, {0}, {0}, {0}}, w[4];
    size_t k = 0;
    for (; k + CK_STRETCH <= n; k += CK_STRETCH) {
        const uint8_t *at = row + ck_dense_bytes(encoding, k);
        ck_ask_ahead(at);
        ck_dense_decode(encoding, at, w);
        ck_dense_add(w, x + k, CK_STRETCH, s);
    }
    if (k < n) {
        ck_dense_decode_end(encoding, row + ck_dense_bytes(encoding, k), n - k, w);
        ck_dense_add(w, x + k, n - k, s);
    }
    return ck_join(s);
}

/// One row times a few vectors, decoded once for all.
CK_INLINE void ck_dense_few(enum ck_encoding encoding, const uint8_t *row, size_t n, const float *x, size_t few, float *out,
                            size_t stride) {
    ck_f32 s[CK_DENSE_VECTORS][4] = {{{0}}};
    ck_f32 w[CK_DENSE_COLUMNS / CK_STRETCH][4];
    for (size_t at = 0; at < n; at += CK_DENSE_COLUMNS) {
        const size_t some = n - at < CK_DENSE_COLUMNS ? n - at : CK_DENSE_COLUMNS;
        for (size_t k = 0; k < some; k += CK_STRETCH) {
            const uint8_t *from = row + ck_dense_bytes(encoding, at + k);
            if (some - k >= CK_STRETCH) {
                ck_dense_decode(encoding, from, w[k / CK_STRETCH]);
            } else {
                ck_dense_decode_end(encoding, from, some - k, w[k / CK_STRETCH]);
            }
        }
        for (size_t t = 0; t < few; t++) {
            const float *v = x + t * n + at;
            size_t k = 0;
            for (; k + CK_STRETCH <= some; k += CK_STRETCH) ck_dense_add(w[k / CK_STRETCH], v + k, CK_STRETCH, s[t]);
            if (k < some) ck_dense_add(w[k / CK_STRETCH], v + k, some - k, s[t]);
        }
    }
    for (size_t t = 0; t < few; t++) out[t * stride] = ck_join(s[t]);
}

CK_INLINE void ck_dense_rows(enum ck_encoding encoding, const uint8_t *matrix, size_t n, size_t begin, size_t end,
                             const float *x, size_t T, float *out, size_t stride) {
    const size_t bytes = ck_dense_bytes(encoding, n);
    for (size_t r = begin; r < end; r++) {
        const uint8_t *row = matrix + r * bytes;
        if (T == 1) {
            out[r] = ck_dense_one(encoding, row, n, x);
            continue;
        }
        for (size_t t = 0; t < T; t += CK_DENSE_VECTORS) {
            const size_t few = T - t < CK_DENSE_VECTORS ? T - t : CK_DENSE_VECTORS;
            ck_dense_few(encoding, row, n, x + t * n, few, out + t * stride + r, stride);
        }
    }
}

static void ck_row_dense(enum ck_encoding encoding, const void *matrix, size_t n, size_t begin, size_t end, const float *x,
                         size_t T, float *out, size_t stride) {
    switch (encoding) {
        case CK_F32: ck_dense_rows(CK_F32, matrix, n, begin, end, x, T, out, stride); break;
        case CK_F16: ck_dense_rows(CK_F16, matrix, n, begin, end, x, T, out, stride); break;
        case CK_BF16: ck_dense_rows(CK_BF16, matrix, n, begin, end, x, T, out, stride); break;
        case CK_Q6: ck_dense_rows(CK_Q6, matrix, n, begin, end, x, T, out, stride); break;
    }
}

#pragma clang assume_nonnull end
