// SPDX-License-Identifier: Apache-2.0
//
// A virtual vector of sixteen floats, written with the compiler's vector extension: one zmm, two ymm, or four NEON
// registers, depending on the target attribute in force where this file is included. Every operation here is an IEEE
// operation with one right answer (add, multiply, fused multiply-add, divide, square root, compare, convert), so code
// written with it gives the same bits on every CPU. Contraction is off: a multiply and an add are fused only where fma
// is written.
//
// A NaN never becomes a value by accident: its payload is not defined here, but whether a result is NaN is.
#pragma once
#include "CKernels.h"

#pragma clang assume_nonnull begin

#pragma STDC FP_CONTRACT OFF
// Every function below is inlined, so no vector is ever passed in memory or registers.
#pragma clang diagnostic ignored "-Wpsabi"

#define CK_INLINE static inline __attribute__((always_inline, unused))

typedef float ck_f32 __attribute__((vector_size(64)));
typedef int32_t ck_i32 __attribute__((vector_size(64)));
typedef int8_t ck_i8 __attribute__((vector_size(16)));
typedef uint32_t ck_words __attribute__((vector_size(64)));
typedef uint64_t ck_u64 __attribute__((vector_size(64)));

enum { CK_LANES = 16 };

/// The same float in every lane.
CK_INLINE ck_f32 ck_all(float x) {
    return (ck_f32){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

/// Copies `count` of sixteen words and makes the rest zero; out of line, since it is for the ragged end of a row only.
static __attribute__((noinline, cold, unused)) void ck_fetch_part(void *to, const void *from, size_t count) {
    uint32_t *out = to;
    for (size_t i = 0; i < CK_LANES; i++) out[i] = 0;
    __builtin_memcpy(out, from, count * 4);
}

/// Sixteen floats from memory, or the first `left` of them and zeros.
CK_INLINE ck_f32 ck_load(const float *p, size_t left) {
    ck_f32 v;
    if (__builtin_expect(left >= CK_LANES, 1)) {
        __builtin_memcpy(&v, p, sizeof v);
    } else {
        ck_fetch_part(&v, p, left);
    }
    return v;
}

/// The same for int32, widened to float (round to nearest even).
CK_INLINE ck_f32 ck_load_int(const int32_t *p, size_t left) {
    ck_i32 v;
    if (__builtin_expect(left >= CK_LANES, 1)) {
        __builtin_memcpy(&v, p, sizeof v);
    } else {
        ck_fetch_part(&v, p, left);
    }
    return __builtin_convertvector(v, ck_f32);
}

CK_INLINE void ck_store(float *p, size_t left, ck_f32 v) {
    if (__builtin_expect(left >= CK_LANES, 1)) {
        __builtin_memcpy(p, &v, sizeof v);
    } else {
        __builtin_memcpy(p, &v, left * 4);
    }
}

/// mask ? a : b, lane by lane; a mask lane is 0 or -1, as a comparison gives it.
CK_INLINE ck_f32 ck_select(ck_i32 mask, ck_f32 a, ck_f32 b) {
    return (ck_f32)((mask & (ck_i32)a) | (~mask & (ck_i32)b));
}

/// The larger of each lane; b where either is NaN.
CK_INLINE ck_f32 ck_max(ck_f32 a, ck_f32 b) { return ck_select(a > b, a, b); }
/// The smaller of each lane; b where either is NaN.
CK_INLINE ck_f32 ck_min(ck_f32 a, ck_f32 b) { return ck_select(a < b, a, b); }
CK_INLINE ck_f32 ck_abs(ck_f32 a) { return (ck_f32)((ck_i32)a & 0x7fffffff); }
CK_INLINE ck_f32 ck_fma(ck_f32 a, ck_f32 b, ck_f32 c) { return __builtin_elementwise_fma(a, b, c); }

/// Adds the lanes: halves onto halves, 16 to 8 to 4 to 2 to 1.
CK_INLINE float ck_sum_lanes(ck_f32 v) {
    float a[CK_LANES];
    __builtin_memcpy(a, &v, sizeof a);
    for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) a[i] += a[i + half];
    }
    return a[0];
}

/// The largest lane, ignoring NaN; -infinity if all are.
CK_INLINE float ck_max_lanes(ck_f32 v) {
    float a[CK_LANES], m = -__builtin_inff();
    __builtin_memcpy(a, &v, sizeof a);
    for (int i = 0; i < CK_LANES; i++) m = a[i] > m ? a[i] : m;
    return m;
}

CK_INLINE int32_t ck_sum_ints(ck_i32 v) { return __builtin_reduce_add(v); }

/// Walks 0..<n in vectors, four at a time so that four sums can run side by side. The body sees `k` (its first element),
/// `left` (elements from there on: 16 or more means a whole vector) and `j` (0...3: which sum it belongs to).
/// This is the order of every float sum: element k goes to lane k % 16 of sum (k / 16) % 4.
#define CK_SWEEP(n, ...)                                               \
    do {                                                               \
        size_t ck_at = 0;                                              \
        for (; ck_at + 4 * CK_LANES <= (n); ck_at += 4 * CK_LANES) {   \
            _Pragma("clang loop unroll(full)")                         \
            for (size_t j = 0; j < 4; j++) {                           \
                const size_t k = ck_at + CK_LANES * j, left = CK_LANES; \
                (void)left;                                            \
                __VA_ARGS__                                            \
            }                                                          \
        }                                                              \
        _Pragma("clang loop unroll(full)")                             \
        for (size_t j = 0; j < 4; j++) {                               \
            const size_t k = ck_at + CK_LANES * j;                     \
            if (k < (n)) {                                             \
                const size_t left = (n) - k;                           \
                __VA_ARGS__                                            \
            }                                                          \
        }                                                              \
    } while (0)

/// Joins the four sums of a sweep, then their lanes.
CK_INLINE float ck_join(const ck_f32 *s) { return ck_sum_lanes((s[0] + s[1]) + (s[2] + s[3])); }

// ---------------------------------------------------------------- exp

// exp(x) = 2^n p(r), n = round(x / ln 2), r = x - n ln 2, p a minimax polynomial of degree 6 whose coefficients were
// rounded one after the other, each time fitting the rest again (its own error: 0.05 ulp).
#define CK_EXP_ROUND 12582912.0f   // 1.5 * 2^23: adding it leaves n in the low bits
#define CK_EXP_LOG2E 0x1.715476p+0f
#define CK_EXP_LN2_HIGH 0x1.62e430p-1f
#define CK_EXP_LN2_LOW -0x1.05c610p-29f
#define CK_EXP_LOWEST -87.33654f   // below: 0, so that no result is subnormal
#define CK_EXP_HIGHEST 88.72283f   // above: infinity

/// exp for CK_EXP_LOWEST <= x <= CK_EXP_HIGHEST; anything at all outside of it.
CK_INLINE ck_f32 ck_exp_inside(ck_f32 x) {
    const ck_f32 t = ck_fma(x, ck_all(CK_EXP_LOG2E), ck_all(CK_EXP_ROUND));
    const ck_f32 n = t - ck_all(CK_EXP_ROUND);
    ck_f32 r = ck_fma(n, ck_all(-CK_EXP_LN2_HIGH), x);
    r = ck_fma(n, ck_all(-CK_EXP_LN2_LOW), r);
    ck_f32 p = ck_fma(ck_all(0x1.6a415ep-10f), r, ck_all(0x1.1239c6p-7f));
    p = ck_fma(p, r, ck_all(0x1.5558bcp-5f));
    p = ck_fma(p, r, ck_all(0x1.555492p-3f));
    p = ck_fma(p, r, ck_all(0x1.fffffcp-2f));
    p = ck_fma(p, r, ck_all(1));
    p = ck_fma(p, r, ck_all(1));
    // n into the exponent; unsigned, since the shift drops t's own exponent.
    typedef uint32_t bits __attribute__((vector_size(64)));
    return (ck_f32)((bits)p + ((bits)t << 23));
}

/// exp, right everywhere: 0 below the range, infinity above it, NaN for NaN.
CK_INLINE ck_f32 ck_exp_any(ck_f32 x) {
    ck_f32 e = ck_exp_inside(x);
    e = ck_select(x < CK_EXP_LOWEST, ck_all(0), e);
    e = ck_select(x > CK_EXP_HIGHEST, ck_all(__builtin_inff()), e);
    return ck_select(x == x, e, ck_all(__builtin_nanf("")));
}

/// 1 / (1 + exp(-x)). Beyond ±87 the argument counts as ±87: exact to the last bit above, 1.6e-38 below. NaN counts as -87.
CK_INLINE ck_f32 ck_sigmoid(ck_f32 x) {
    const ck_f32 inside = ck_min(ck_max(x, ck_all(-87)), ck_all(87));
    return ck_all(1) / (ck_all(1) + ck_exp_inside(-inside));
}

/// x / (1 + exp(-x)). Below -87 the argument counts as -87 (-1.4e-36); infinity and NaN give themselves.
CK_INLINE ck_f32 ck_silu(ck_f32 x) {
    const ck_f32 above = ck_max(ck_all(-87), x);  // x where x is NaN
    const ck_f32 inside = ck_min(above, ck_all(87));
    return above / (ck_all(1) + ck_exp_inside(-inside));
}

#pragma clang assume_nonnull end
