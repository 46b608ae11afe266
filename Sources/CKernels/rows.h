// SPDX-License-Identifier: Apache-2.0
//
// The float row operations, written once over vector.h and compiled once per instruction set: every .c file that defines
// a table includes this under its own target attribute. CKernels.h says what each one computes; docs/kernels.md gives
// the order of every sum.
#pragma once
#include "sampling.h"
#include "weights.h"

#pragma clang assume_nonnull begin

#define CK_INNER_EPSILON 1e-6f  // of every BitLinear's own norm, whatever the model's is (hgrnbit's fused kernel)

/// 1 / sqrt(sum / n + eps).
CK_INLINE float ck_inverse_rms(float sum, size_t n, float eps) {
    return 1.0f / __builtin_elementwise_sqrt(sum / (float)n + eps);
}

/// Sum of squares.
CK_INLINE float ck_squares(const float *x, size_t n) {
    ck_f32 s[4] = {{0}, {0}, {0}, {0}};
    CK_SWEEP(n, {
        const ck_f32 v = ck_load(x + k, left);
        s[j] = ck_fma(v, v, s[j]);
    });
    return ck_join(s);
}

/// Writes four groups of four quantised values, `step` bytes apart.
CK_INLINE void ck_put(int8_t *p, size_t step, ck_i8 q) {
    typedef int32_t groups __attribute__((vector_size(16)));
    const groups g = (groups)q;
    if (step == 4) {
        __builtin_memcpy(p, &g, sizeof g);
    } else {
#pragma clang loop unroll(full)
        for (size_t i = 0; i < 4; i++) {
            const int32_t group = g[i];
            __builtin_memcpy(p + i * step, &group, 4);
        }
    }
}

/// How activations are scaled and rounded: a = 127 / m and half away from zero, or a = (1 / m) * 127 and half to even.
typedef enum ck_rounding { CK_AWAY, CK_EVEN } ck_rounding;

/// Sixteen of y = (x * r) * weight, or of x where the caller says NULL.
CK_INLINE ck_f32 ck_normed(const float *x, float r, const float *_Nullable weight, size_t k, size_t left) {
    const ck_f32 v = ck_load(x + k, left);
    return weight ? v * r * ck_load(weight + k, left) : v;
}

/// The nearest integers as the model rounds; NaN becomes 0. |y| < 2^22.
CK_INLINE ck_i32 ck_nearest(ck_rounding rounding, ck_f32 y) {
    ck_f32 v;
    if (rounding == CK_EVEN) {
        v = (y + 12582912.0f) - 12582912.0f;  // 1.5 * 2^23: the sum has no room for a fraction
    } else {
        // The largest float below one half, with y's sign: adding a true half would round 0.49999997 up.
        v = y + (ck_f32)((ck_i32)ck_all(0.49999997f) | ((ck_i32)y & (int32_t)0x80000000u));
    }
    return __builtin_convertvector(ck_select(y == y, v, ck_all(0)), ck_i32);
}

/// y quantised with a = 127 / max(max|y|, 1e-5), in one rounding or two.
/// |y * a| is at most 127 (1 + 2^-22), which rounds to 127, so there is nothing to clamp.
CK_INLINE void ck_quantise(ck_rounding rounding, const float *x, size_t n, float r, const float *_Nullable weight,
                           const ck_quantised_row *out) {
    ck_f32 m[4] = {{0}, {0}, {0}, {0}};
    CK_SWEEP(n, { m[j] = ck_max(ck_abs(ck_normed(x, r, weight, k, left)), m[j]); });
    float largest = ck_max_lanes(ck_max(ck_max(m[0], m[1]), ck_max(m[2], m[3])));
    largest = largest > 1e-5f ? largest : 1e-5f;
    const float a = rounding == CK_EVEN ? 1.0f / largest * 127.0f : 127.0f / largest;
    int8_t *values = out->values + (size_t)out->row * 4;
    const size_t step = (size_t)out->rows * 4;
    int8_t last[CK_LANES + CK_VECTOR_COLUMNS] = {0};  // the ragged end and the padding
    ck_i32 sum[4] = {{0}, {0}, {0}, {0}};
    CK_SWEEP(n, {
        const ck_i32 q = ck_nearest(rounding, ck_normed(x, r, weight, k, left) * a);
        sum[j] += q;
        const ck_i8 bytes = __builtin_convertvector(q, ck_i8);
        if (left >= CK_LANES) {
            ck_put(values + k / 4 * step, step, bytes);
        } else {
            __builtin_memcpy(last, &bytes, sizeof bytes);
        }
    });
    const size_t padded = ck_padded_columns(n), whole = n / CK_LANES * CK_LANES;
    for (size_t k = whole; k < padded; k += 4) __builtin_memcpy(values + k / 4 * step, last + (k - whole), 4);
    *out->inverse = a;
    *out->sum = ck_sum_ints((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

CK_INLINE void ck_quantise_each(ck_rounding rounding, const float *x, size_t n, float r,
                                const float *_Nonnull const *_Nonnull weights, size_t count, const ck_quantised_row *out) {
    for (size_t w = 0; w < count; w++) {
        const float *weight = weights[w];
        __builtin_assume(weight != NULL);  // no test in the loops
        ck_quantise(rounding, x, n, r, weight, &out[w]);
    }
}

/// to = rms(x, weight, eps); the sum of the squares of the result.
CK_INLINE float ck_norm_squares(const float *x, size_t n, const float *weight, float eps, float *to) {
    const float r = ck_inverse_rms(ck_squares(x, n), n, eps);
    ck_f32 s[4] = {{0}, {0}, {0}, {0}};
    CK_SWEEP(n, {
        const ck_f32 v = ck_normed(x, r, weight, k, left);
        s[j] = ck_fma(v, v, s[j]);
        ck_store(to + k, left, v);
    });
    return ck_join(s);
}

static void ck_row_norm_quantise(const float *x, size_t n, const float *_Nullable outer, float outer_eps,
                                 const float *_Nonnull const *_Nonnull weights, size_t count,
                                 const ck_quantised_row *out, float *scratch) {
    const float squares = outer ? ck_norm_squares(x, n, outer, outer_eps, scratch) : ck_squares(x, n);
    const float r = ck_inverse_rms(squares, n, CK_INNER_EPSILON);
    ck_quantise_each(CK_AWAY, outer ? scratch : x, n, r, weights, count, out);
}

static void ck_row_norm_quantise_even(const float *x, size_t n, const float *_Nullable outer, float outer_eps,
                                      const float *_Nonnull const *_Nullable weights, float eps, size_t count,
                                      const ck_quantised_row *out, float *scratch) {
    const float squares = outer ? ck_norm_squares(x, n, outer, outer_eps, scratch) : weights ? ck_squares(x, n) : 0;
    const float *y = outer ? scratch : x;
    if (weights) {
        ck_quantise_each(CK_EVEN, y, n, ck_inverse_rms(squares, n, eps), weights, count, out);
    } else {
        ck_quantise(CK_EVEN, y, n, 1, NULL, out);
    }
}

static void ck_row_gated_norm_quantise(const int32_t *yg, float sg, size_t n, const float *gate_norm, float eps,
                                       const float *gate, const float *weight, const ck_quantised_row *out,
                                       float *scratch) {
    ck_f32 s[4] = {{0}, {0}, {0}, {0}};
    CK_SWEEP(n, {
        const ck_f32 g = ck_load_int(yg + k, left) * sg;
        s[j] = ck_fma(g, g, s[j]);
    });
    const float r = ck_inverse_rms(ck_join(s), n, eps);
    ck_f32 t[4] = {{0}, {0}, {0}, {0}};
    CK_SWEEP(n, {
        const ck_f32 g = ck_load_int(yg + k, left) * sg;
        const ck_f32 o = g * r * ck_load(gate_norm + k, left) * ck_load(gate + k, left);
        t[j] = ck_fma(o, o, t[j]);
        ck_store(scratch + k, left, o);
    });
    ck_quantise(CK_AWAY, scratch, n, ck_inverse_rms(ck_join(t), n, CK_INNER_EPSILON), weight, out);
}

static void ck_row_swiglu(const int32_t *gate, float gate_scale, const int32_t *up, float up_scale, size_t n, float *out) {
    CK_SWEEP(n, {
        ck_store(out + k, left, ck_silu(ck_load_int(gate + k, left) * gate_scale) * (ck_load_int(up + k, left) * up_scale));
    });
}

static void ck_row_relu2(const int32_t *gate, float gate_scale, const int32_t *up, float up_scale, size_t n, float *out) {
    CK_SWEEP(n, {
        const ck_f32 g = ck_max(ck_all(0), ck_load_int(gate + k, left) * gate_scale);  // NaN where that is NaN
        ck_store(out + k, left, g * g * (ck_load_int(up + k, left) * up_scale));
    });
}

static void ck_row_norm(const float *x, size_t n, const float *weight, float eps, float *out) {
    const float r = ck_inverse_rms(ck_squares(x, n), n, eps);
    CK_SWEEP(n, { ck_store(out + k, left, ck_load(x + k, left) * r * ck_load(weight + k, left)); });
}

static void ck_row_add_scaled(float *h, const int32_t *y, float scale, size_t n) {
    CK_SWEEP(n, { ck_store(h + k, left, ck_load(h + k, left) + ck_load_int(y + k, left) * scale); });
}

static void ck_row_scale(float *out, const int32_t *y, float scale, size_t n) {
    CK_SWEEP(n, { ck_store(out + k, left, ck_load_int(y + k, left) * scale); });
}

static void ck_row_recurrence(const int32_t *yi, float si, const int32_t *yf, float sf, const float *_Nullable bound,
                              const float *from, float *to, float *out, size_t n) {
    CK_SWEEP(n, {
        ck_f32 f = ck_sigmoid(ck_load_int(yf + k, left) * sf);
        if (bound) {
            const ck_f32 b = ck_load(bound + k, left);
            f = b + (1.0f - b) * f;
        }
        const ck_f32 v = ck_silu(ck_load_int(yi + k, left) * si) * (1.0f - f);
        const ck_f32 h = f * ck_load(from + k, left) + v;
        ck_store(to + k, left, h);
        ck_store(out + k, left, ck_silu(h));
    });
}

static void ck_row_widen_f16(const uint16_t *in, size_t n, float *out) {
    for (size_t k = 0; k < n; k++) {
        const uint32_t sign = (uint32_t)(in[k] & 0x8000) << 16, rest = (uint32_t)(in[k] & 0x7fff) << 13;
        float f;
        uint32_t bits = rest;
        __builtin_memcpy(&f, &bits, 4);
        f *= 0x1p112f;  // moves the exponent, subnormals included
        __builtin_memcpy(&bits, &f, 4);
        bits = sign | (rest >= 0x0f800000u ? rest | 0x7f800000u : bits);
        __builtin_memcpy(out + k, &bits, 4);
    }
}

static void ck_row_widen_bf16(const uint16_t *in, size_t n, float *out) {
    for (size_t k = 0; k < n; k++) {
        const uint32_t bits = (uint32_t)in[k] << 16;
        __builtin_memcpy(out + k, &bits, 4);
    }
}

static size_t ck_row_argmax(const float *x, size_t n) {
    const ck_f32 lowest = ck_all(-__builtin_inff());
    ck_f32 m[4] = {lowest, lowest, lowest, lowest};
    size_t at = 0;
    for (; at + 64 <= n; at += 64) {
        for (size_t j = 0; j < 4; j++) m[j] = ck_max(ck_load(x + at + 16 * j, 16), m[j]);
    }
    float largest = ck_max_lanes(ck_max(ck_max(m[0], m[1]), ck_max(m[2], m[3])));
    for (; at < n; at++) largest = x[at] > largest ? x[at] : largest;
    // A second look for its place: cheaper than carrying places through the first.
    size_t k = 0;
    for (; k + 16 <= n; k += 16) {
        if (__builtin_reduce_or(ck_load(x + k, 16) == largest)) break;
    }
    for (; k < n; k++) {
        if (x[k] == largest) return k;
    }
    return 0;  // nothing but NaN
}

static uint64_t ck_row_read_all(const uint8_t *bytes, size_t count) {
    ck_u64 s[4] = {{0}, {0}, {0}, {0}};
    size_t at = 0;
    for (; at + 256 <= count; at += 256) {
        for (size_t j = 0; j < 4; j++) {
            ck_ask(bytes + at + 64 * j + CK_ASK_EARLY);
            ck_u64 v;
            __builtin_memcpy(&v, bytes + at + 64 * j, sizeof v);
            s[j] += v;
        }
    }
    for (; at + 64 <= count; at += 64) {
        ck_u64 v;
        __builtin_memcpy(&v, bytes + at, sizeof v);
        s[0] += v;
    }
    return __builtin_reduce_add((s[0] + s[1]) + (s[2] + s[3]));
}

/// The row operations' part of a table.
#define CK_ROW_OPERATIONS                                                                                      \
    .norm_quantise = ck_row_norm_quantise, .norm_quantise_even = ck_row_norm_quantise_even,                    \
    .add_scaled = ck_row_add_scaled, .scale = ck_row_scale, .recurrence = ck_row_recurrence,                   \
    .gated_norm_quantise = ck_row_gated_norm_quantise, .swiglu = ck_row_swiglu, .relu2 = ck_row_relu2,         \
    .norm = ck_row_norm, .rotate = ck_row_rotate, .attend = ck_row_attend, .dense = ck_row_dense,              \
    .widen_f16 = ck_row_widen_f16, .widen_bf16 = ck_row_widen_bf16, .argmax = ck_row_argmax,                   \
    .sum_exp = ck_row_sum_exp, .masses_above = ck_row_masses_above, .mass_above = ck_row_mass_above,           \
    .exp_shifted = ck_row_exp_shifted,                                                                         \
    .temper = ck_row_temper, .temper_above = ck_row_temper_above, .select = ck_row_select,                     \
    .drop_below = ck_row_drop_below, .read_all = ck_row_read_all

#pragma clang assume_nonnull end

#include "attention.h"
#include "dense.h"
