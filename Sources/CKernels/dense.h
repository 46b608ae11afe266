// SPDX-License-Identifier: Apache-2.0
//
// Dense rows in their stored form times vectors of floats. Part of rows.h: compiled once per table.
#pragma once
#include "rows.h"

#pragma clang assume_nonnull begin

enum {
    CK_STRETCH = 64,        ///< values decoded together: once through the four sums
    CK_DENSE_ROWS = 4,      ///< decoded side by side, where several vectors share them
    CK_DENSE_COLUMNS = 512, ///< of them at a time
    CK_DENSE_VECTORS = 8,   ///< that share them
};

/// Bytes that `n` values take; n is a multiple of CK_STRETCH or the length of a row.
CK_INLINE size_t ck_dense_bytes(enum ck_encoding encoding, size_t n) {
    return encoding == CK_F32 ? n * 4 : encoding == CK_Q6 ? (n + CK_STRETCH - 1) / CK_STRETCH * 52 : n * 2;
}

/// A constant for each of the four codes of a group of q6, in every lane.
#define CK_IN_GROUPS(a, b, c, d) {a, b, c, d, a, b, c, d, a, b, c, d, a, b, c, d}

/// Sixteen codes of a q6 block, 12 bytes and 4 more that may be read, as floats 2 + code * 2^(1 - p), p = 7, 9, 11, 13 in a
/// group: the bytes of each code are brought below bit 23 of its lane and masked, the exponent of 2 above them.
#ifndef CK_Q6_SPREAD
CK_INLINE ck_f32 ck_q6_spread(const uint8_t *codes) {
    typedef uint8_t sixteen __attribute__((vector_size(16)));
    typedef uint8_t bytes __attribute__((vector_size(64)));
    sixteen v;
    __builtin_memcpy(&v, codes, sizeof v);
    // Bits of the codes: 0-5 of byte 0; 6-11 of bytes 0 and 1; 4-9 of bytes 1 and 2; 2-7 of byte 2.
#define CK_GROUP(g) 3 * (g), 3 * (g), 3 * (g), 3 * (g), 3 * (g), 3 * (g), 3 * (g) + 1, 3 * (g), \
    3 * (g), 3 * (g) + 1, 3 * (g) + 2, 3 * (g), 3 * (g), 3 * (g) + 2, 3 * (g), 3 * (g)
    const bytes spread = __builtin_shufflevector(v, v, CK_GROUP(0), CK_GROUP(1), CK_GROUP(2), CK_GROUP(3));
#undef CK_GROUP
    const ck_words mask = CK_IN_GROUPS(63 << 16, 63 << 14, 63 << 12, 63 << 10);
    return (ck_f32)(((ck_words)spread & mask) | 0x40000000u);
}
#define CK_Q6_SPREAD ck_q6_spread
#endif

/// The scales s of a q6 block's two halves: s 2^(p - 1) and s (2^p + 32), both exact. Nothing for other encodings.
typedef struct ck_dense_scales {
    ck_f32 unit[2], zero[2];
} ck_dense_scales;

/// Whether one of a q6 block's scales is an infinity or NaN: never of an encoder.
CK_INLINE int ck_q6_is_odd(const uint8_t *row) {
    uint32_t both;
    __builtin_memcpy(&both, row + 48, sizeof both);
    return (((both & 0x7c007c00u) + 0x04000400u) & 0x80008000u) != 0;
}

CK_INLINE ck_dense_scales ck_scales_of(enum ck_encoding encoding, const uint8_t *row) {
    ck_dense_scales scales = {{{0}}, {{0}}};
    if (encoding != CK_Q6) return scales;
    uint32_t both;
    __builtin_memcpy(&both, row + 48, sizeof both);
    const ck_f32 unit = CK_IN_GROUPS(0x1p118f, 0x1p120f, 0x1p122f, 0x1p124f);  // 2^112 moves a half's exponent
    const ck_f32 zero = CK_IN_GROUPS(160 * 0x1p112f, 544 * 0x1p112f, 2080 * 0x1p112f, 8224 * 0x1p112f);
#pragma clang loop unroll(full)
    for (size_t h = 0; h < 2; h++) {
        const ck_i32 half = (ck_i32)((ck_words){0} + (h ? both : both << 16));
        const ck_f32 bits = (ck_f32)((half >> 3) & (int32_t)0x8fffe000u);
        scales.unit[h] = bits * unit, scales.zero[h] = bits * zero;
    }
    return scales;
}

/// Sixteen stored values as floats, the j-th of four. Of q6, s (2^p + code) - s (2^p + 32), exact; a zero is positive.
CK_INLINE ck_f32 ck_dense_decode(enum ck_encoding encoding, const uint8_t *row, size_t j, const ck_dense_scales *scales) {
    ck_f32 w;
    if (encoding == CK_Q6) return ck_fma(CK_Q6_SPREAD(row + 12 * j), scales->unit[j / 2], -scales->zero[j / 2]);
    if (encoding == CK_F32) {
        __builtin_memcpy(&w, row + 64 * j, sizeof w);
        return w;
    }
    typedef uint16_t halves __attribute__((vector_size(32)));
    halves h;
    __builtin_memcpy(&h, row + 32 * j, sizeof h);
    const ck_words bits = __builtin_convertvector(h, ck_words);
    if (encoding == CK_BF16) return (ck_f32)(bits << 16);
    const ck_words rest = (bits & 0x7fff) << 13, sign = (bits & 0x8000) << 16;
    const ck_f32 finite = (ck_f32)rest * 0x1p112f;  // moves the exponent, subnormals included
    w = ck_select((ck_i32)(rest >= 0x0f800000u), (ck_f32)(rest | 0x7f800000u), finite);
    return (ck_f32)((ck_words)w | sign);
}

/// 64 stored values.
CK_INLINE void ck_dense_whole(enum ck_encoding encoding, const uint8_t *row, ck_f32 *w) {
    if (encoding == CK_Q6 && __builtin_expect(ck_q6_is_odd(row), 0)) {
        float values[CK_STRETCH];
        ck_q6_decode(row, CK_STRETCH, values);
        __builtin_memcpy(w, values, sizeof values);
        return;
    }
    const ck_dense_scales scales = ck_scales_of(encoding, row);
#pragma clang loop unroll(full)
    for (size_t j = 0; j < 4; j++) w[j] = ck_dense_decode(encoding, row, j, &scales);
}

/// The last `left` < 64 values of a row, and zeros.
CK_INLINE void ck_dense_end(enum ck_encoding encoding, const uint8_t *row, size_t left, ck_f32 *w) {
    uint8_t part[CK_STRETCH * 4] = {0};
    float values[CK_STRETCH];
    __builtin_memcpy(part, row, ck_dense_bytes(encoding, left));
    ck_dense_whole(encoding, part, w);
    __builtin_memcpy(values, w, sizeof values);
    for (size_t i = left; i < CK_STRETCH; i++) values[i] = 0;  // whatever pads a block of q6
    __builtin_memcpy(w, values, sizeof values);
}

/// Adds the products with the last `left` < 64 elements of a vector to four sums.
CK_INLINE void ck_dense_add(const ck_f32 *w, const float *x, size_t left, ck_f32 *s) {
    float values[CK_STRETCH] = {0};
    __builtin_memcpy(values, x, left * sizeof *x);
    for (size_t j = 0; j < 4; j++) s[j] = ck_fma(w[j], ck_load(values + CK_LANES * j, CK_LANES), s[j]);
}

/// One row of q6 times one vector, decoded in memory: for rows with odd scales, so that the common loop makes no calls.
static __attribute__((noinline, cold, unused)) float ck_q6_odd_row(const uint8_t *row, size_t n, const float *x) {
    ck_f32 s[4] = {{0}, {0}, {0}, {0}};
    for (size_t k = 0; k < n; k += CK_STRETCH) {
        ck_f32 w[4];
        const size_t left = n - k < CK_STRETCH ? n - k : CK_STRETCH;
        ck_dense_end(CK_Q6, row + ck_dense_bytes(CK_Q6, k), left, w);
        ck_dense_add(w, x + k, left, s);
    }
    return ck_join(s);
}

/// One row times one vector, decoded in registers.
CK_INLINE float ck_dense_one(enum ck_encoding encoding, const uint8_t *row, size_t n, const float *x) {
    ck_f32 s[4] = {{0}, {0}, {0}, {0}};
    size_t k = 0;
    for (; k + CK_STRETCH <= n; k += CK_STRETCH) {
        const uint8_t *at = row + ck_dense_bytes(encoding, k);
#pragma clang loop unroll(full)
        for (size_t line = 0; line < ck_dense_bytes(encoding, CK_STRETCH); line += 64) ck_ask_ahead(at + line);
        if (encoding == CK_Q6 && __builtin_expect(ck_q6_is_odd(at), 0)) return ck_q6_odd_row(row, n, x);
        const ck_dense_scales scales = ck_scales_of(encoding, at);
#pragma clang loop unroll(full)
        for (size_t j = 0; j < 4; j++) {
            const ck_f32 w = ck_dense_decode(encoding, at, j, &scales);
            s[j] = ck_fma(w, ck_load(x + k + CK_LANES * j, CK_LANES), s[j]);
            // One after the other: decoded all at once, they would push sums out of registers.
            if (encoding == CK_Q6) __asm__ volatile("" ::: "memory");
        }
    }
    if (k < n) {
        ck_f32 w[4];
        ck_dense_end(encoding, row + ck_dense_bytes(encoding, k), n - k, w);
        ck_dense_add(w, x + k, n - k, s);
    }
    return ck_join(s);
}

// ---------------------------------------------------------------- q6, one vector
//
// The four codes of a group come out 2^(1 - p) times too small, each by its own p. The vector is multiplied by 2^(p - 1) once for all
// rows instead: every product is the same number, and a block needs its two scales as they are.

enum {
    CK_Q6_MOST = 8192,  ///< elements of a vector that fit on the stack
    CK_Q6_BLOCKS = CK_Q6_MOST / CK_STRETCH,
};

/// x times 2^(p - 1): [n], n a multiple of 64. Whether no element is so large, or not finite, that this changes a product.
CK_INLINE int ck_q6_prepare(const float *x, size_t n, float *out) {
    const ck_f32 factor = CK_IN_GROUPS(0x1p6f, 0x1p8f, 0x1p10f, 0x1p12f);
    ck_i32 large = {0};
    for (size_t k = 0; k < n; k += CK_LANES) {
        const ck_f32 v = ck_load(x + k, CK_LANES), scaled = v * factor;
        const ck_words bits = (ck_words)v & 0x7fffffffu;
        large |= (ck_i32)(bits > 0x70000000u);  // 2^97
        __builtin_memcpy(out + k, &scaled, sizeof scaled);
    }
    int any = 0;
    for (size_t i = 0; i < CK_LANES; i++) any |= large[i];
    return !any;
}

/// One row times one vector, x, which `prepared` is made of; n a multiple of 64, at most CK_Q6_MOST.
CK_INLINE float ck_q6_one(const uint8_t *row, size_t n, const float *x, const float *prepared) {
    const size_t blocks = n / CK_STRETCH;
    uint16_t halves[2 * CK_Q6_BLOCKS];
    float scales[2 * CK_Q6_BLOCKS];
    for (size_t b = 0; b < blocks; b++) __builtin_memcpy(halves + 2 * b, row + 52 * b + 48, 4);
    ck_row_widen_f16(halves, 2 * blocks, scales);
    ck_i32 odd = {0};
    for (size_t i = 0; i < 2 * blocks; i += CK_LANES) {
        const ck_f32 v = ck_load(scales + i, 2 * blocks - i);
        odd |= (ck_i32)(((ck_words)v & 0x7f800000u) == 0x7f800000u);
    }
    int any = 0;
    for (size_t i = 0; i < CK_LANES; i++) any |= odd[i];
    if (__builtin_expect(any, 0)) return ck_q6_odd_row(row, n, x);

    const ck_f32 zero = CK_IN_GROUPS(-2.5f, -2.125f, -2.03125f, -2.0078125f);  // -(2 + 32 * 2^(1 - p))
    ck_f32 s[4] = {{0}, {0}, {0}, {0}};
    for (size_t b = 0; b < blocks; b++, row += 52, prepared += CK_STRETCH) {
        ck_ask_ahead(row);
#pragma clang loop unroll(full)
        for (size_t h = 0; h < 2; h++) {
            const ck_f32 scale = ck_all(scales[2 * b + h]), offset = scale * zero;
#pragma clang loop unroll(full)
            for (size_t j = 2 * h; j < 2 * h + 2; j++) {
                const ck_f32 w = ck_fma(CK_Q6_SPREAD(row + 12 * j), scale, offset);
                s[j] = ck_fma(w, ck_load(prepared + CK_LANES * j, CK_LANES), s[j]);
            }
        }
    }
    return ck_join(s);
}

/// Rows decoded side by side, and vectors that share them.
typedef struct ck_dense_tile {
    ck_f32 w[CK_DENSE_ROWS][CK_DENSE_COLUMNS / CK_STRETCH][4];
    ck_f32 sums[CK_DENSE_ROWS][CK_DENSE_VECTORS][4];
} ck_dense_tile;

/// Adds whole stretches of rows r on, one or two (a constant), times one or two vectors from t on, to sum j.
CK_INLINE void ck_dense_pairs(ck_dense_tile *tile, size_t r, size_t rows, size_t t, size_t vectors, size_t j, const float *x,
                              size_t n, size_t stretches) {
    ck_f32 s[2][2];
#define CK_EACH(count, i, ...) _Pragma("clang loop unroll(full)") for (size_t i = 0; i < (count); i++) { __VA_ARGS__ }
    CK_EACH(rows, i, CK_EACH(vectors, v, s[i][v] = tile->sums[r + i][t + v][j];))
    for (size_t k = 0; k < stretches; k++) {
        ck_f32 w[2];
        CK_EACH(rows, i, w[i] = tile->w[r + i][k][j];)
        CK_EACH(vectors, v,
            const ck_f32 y = ck_load(x + (t + v) * n + k * CK_STRETCH + j * CK_LANES, CK_LANES);
            CK_EACH(rows, i, s[i][v] = ck_fma(w[i], y, s[i][v]);)
        )
    }
    CK_EACH(rows, i, CK_EACH(vectors, v, tile->sums[r + i][t + v][j] = s[i][v];))
#undef CK_EACH
}

/// The same, of as many rows and vectors as there are, at most two of each.
static __attribute__((unused)) void ck_dense_multiply(ck_dense_tile *tile, size_t r, size_t rows, size_t t, size_t vectors,
                                                      size_t j, const float *x, size_t n, size_t stretches) {
    if (rows > 1 && vectors > 1) {
        ck_dense_pairs(tile, r, 2, t, 2, j, x, n, stretches);
    } else if (rows > 1) {
        ck_dense_pairs(tile, r, 2, t, 1, j, x, n, stretches);
    } else if (vectors > 1) {
        ck_dense_pairs(tile, r, 1, t, 2, j, x, n, stretches);
    } else {
        ck_dense_pairs(tile, r, 1, t, 1, j, x, n, stretches);
    }
}

/// A few rows times a few vectors, decoded once for all.
CK_INLINE void ck_dense_few(enum ck_encoding encoding, const uint8_t *row, size_t rows, size_t n, const float *x, size_t few,
                            float *out, size_t stride) {
    const size_t bytes = ck_dense_bytes(encoding, n);
    ck_dense_tile memory, *tile = &memory;
    __builtin_memset(tile->sums, 0, sizeof tile->sums);
    for (size_t at = 0; at < n; at += CK_DENSE_COLUMNS) {
        const size_t some = n - at < CK_DENSE_COLUMNS ? n - at : CK_DENSE_COLUMNS;
        const size_t stretches = some / CK_STRETCH, left = some % CK_STRETCH;
        for (size_t r = 0; r < rows; r++) {
            const uint8_t *from = row + r * bytes + ck_dense_bytes(encoding, at);
            for (size_t k = 0; k < stretches; k++) {
                const uint8_t *stretch = from + ck_dense_bytes(encoding, k * CK_STRETCH);
                // The same place in the rows that come next.
#pragma clang loop unroll(full)
                for (size_t line = 0; line < ck_dense_bytes(encoding, CK_STRETCH); line += 64) ck_ask(stretch + rows * bytes + line);
                ck_dense_whole(encoding, stretch, tile->w[r][k]);
            }
            if (left == 0) continue;
            ck_f32 end[4];
            ck_dense_end(encoding, from + ck_dense_bytes(encoding, stretches * CK_STRETCH), left, end);
            __builtin_memcpy(tile->w[r][CK_DENSE_COLUMNS / CK_STRETCH - 1], end, sizeof end);  // free: the part is not whole
        }
        // A pair of vectors stays in the first-level cache while all rows pass.
        for (size_t t = 0; t < few; t += 2) {
            for (size_t r = 0; r < rows; r += 2) {
                for (size_t j = 0; j < 4; j++) ck_dense_multiply(tile, r, rows - r, t, few - t, j, x + at, n, stretches);
            }
        }
        for (size_t r = 0; left && r < rows; r++) {
            const ck_f32 *end = tile->w[r][CK_DENSE_COLUMNS / CK_STRETCH - 1];
            for (size_t t = 0; t < few; t++) {
                ck_dense_add(end, x + t * n + at + stretches * CK_STRETCH, left, tile->sums[r][t]);
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < few; t++) out[t * stride + r] = ck_join(tile->sums[r][t]);
    }
}

CK_INLINE void ck_dense_rows(enum ck_encoding encoding, const uint8_t *matrix, size_t n, size_t begin, size_t end,
                             const float *x, size_t T, float *out, size_t stride) {
    const size_t bytes = ck_dense_bytes(encoding, n);
    size_t r = begin;
    if (encoding == CK_Q6 && T == 1 && n % CK_STRETCH == 0 && n <= CK_Q6_MOST) {
        float prepared[CK_Q6_MOST] __attribute__((aligned(64)));
        const int safe = ck_q6_prepare(x, n, prepared);
        for (; safe && r < end; r++) out[r] = ck_q6_one(matrix + r * bytes, n, x, prepared);
    }
    for (; T == 1 && r < end; r++) out[r] = ck_dense_one(encoding, matrix + r * bytes, n, x);
    while (r < end) {
        const size_t rows = end - r < CK_DENSE_ROWS ? end - r : CK_DENSE_ROWS;
        for (size_t t = 0; t < T; t += CK_DENSE_VECTORS) {
            const size_t few = T - t < CK_DENSE_VECTORS ? T - t : CK_DENSE_VECTORS;
            ck_dense_few(encoding, matrix + r * bytes, rows, n, x + t * n, few, out + t * stride + r, stride);
        }
        r += rows;
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
