// SPDX-License-Identifier: Apache-2.0
//
// What choosing a token is made of: passes over the logits, written once over vector.h; rows.h includes it.
#pragma once
#include "compress.h"

#pragma clang assume_nonnull begin

/// The first `left` lanes, zero in the others.
CK_INLINE ck_f32 ck_only(ck_f32 v, size_t left) {
    const ck_i32 place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return left < CK_LANES ? ck_select(place < (int32_t)left, v, ck_all(0)) : v;
}

static float ck_row_sum_exp(const float *x, size_t n, float shift) {
    ck_f32 s[4] = {{0}, {0}, {0}, {0}};
    CK_SWEEP(n, {
        s[j] += ck_only(ck_exp_any(ck_load(x + k, left) - shift), left);
    });
    return ck_join(s);
}

/// Sixteen sums in double precision.
typedef double ck_f64 __attribute__((vector_size(64)));
typedef struct ck_masses {
    ck_f64 low, high;
} ck_masses;

CK_INLINE ck_masses ck_add_masses(ck_masses sums, ck_f32 v) {
    typedef float half __attribute__((vector_size(32)));
    const half low = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7);
    const half high = __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    sums.low += __builtin_convertvector(low, ck_f64);
    sums.high += __builtin_convertvector(high, ck_f64);
    return sums;
}

/// Adds the lanes: halves onto halves, 16 to 8 to 4 to 2 to 1.
CK_INLINE double ck_join_masses(ck_masses sums) {
    const ck_f64 both = sums.low + sums.high;
    double a[8];
    __builtin_memcpy(a, &both, sizeof a);
    for (size_t half = 4; half > 0; half /= 2) {
        for (size_t i = 0; i < half; i++) a[i] += a[i + half];
    }
    return a[0];
}

static double ck_row_mass_above(const float *x, const float *by, size_t n, float limit) {
    ck_masses sums = {{0}, {0}};
    CK_SWEEP(n, {
        // What a part of a vector is filled with is no element: it may be above the limit, but adds 0.
        sums = ck_add_masses(sums, (ck_f32)((ck_load(by + k, left) >= limit) & (ck_i32)ck_load(x + k, left)));
        (void)j;
    });
    return ck_join_masses(sums);
}

static void ck_row_exp_shifted(const float *x, size_t n, float shift, float *out) {
    CK_SWEEP(n, { ck_store(out + k, left, ck_exp_any(ck_load(x + k, left) - shift)); });
}

/// Sixteen of x, less `shift`, over `temperature`; -infinity where that is NaN.
CK_INLINE ck_f32 ck_tempered(const float *x, size_t left, float shift, float temperature) {
    const ck_f32 v = (ck_load(x, left) - shift) / temperature;
    return ck_select(v == v, v, ck_all(-__builtin_inff()));
}

static void ck_row_temper(const float *x, size_t n, float shift, float temperature, float *out) {
    CK_SWEEP(n, { ck_store(out + k, left, ck_tempered(x + k, left, shift, temperature)); });
}

/// above[i] += those of x, n of them, a multiple of 16, whose `by` is at limits[i] or more. Out of line: it takes all registers.
static __attribute__((noinline)) void ck_add_above(const float *x, const float *by, size_t n, const float *limits, ck_f32 *above) {
    ck_f32 sums[CK_LIMITS];
    __builtin_memcpy(sums, above, sizeof sums);
    for (size_t k = 0; k < n; k += CK_LANES) {
        const ck_f32 v = ck_load(by + k, CK_LANES), w = ck_load(x + k, CK_LANES);
#pragma clang loop unroll(full)
        for (size_t i = 0; i < CK_LIMITS; i++) sums[i] = ck_add_hits(sums[i], v >= limits[i], w);
    }
    __builtin_memcpy(above, sums, sizeof sums);
}

static void ck_row_masses_above(const float *x, const float *by, size_t n, const float *limits, float *sums) {
    ck_f32 above[CK_LIMITS] = {{0}};
    const size_t whole = n / CK_LANES * CK_LANES;
    ck_add_above(x, by, whole, limits, above);
    if (whole < n) {
        // What a part of a vector is filled with adds 0.
        float part[2][CK_LANES];
        ck_store(part[0], CK_LANES, ck_load(x + whole, n - whole));
        ck_store(part[1], CK_LANES, ck_load(by + whole, n - whole));
        ck_add_above(part[0], part[1], CK_LANES, limits, above);
    }
    for (size_t i = 0; i < CK_LIMITS; i++) sums[i] = ck_sum_lanes(above[i]);
}

enum { CK_SAMPLED = 16 * CK_LANES };  ///< values that are tempered, then summed

static double ck_row_temper_above(const float *x, size_t n, float shift, float temperature, float *out, const float *limits, float *sums) {
    float values[CK_SAMPLED] __attribute__((aligned(64))), weights[CK_SAMPLED] __attribute__((aligned(64)));
    ck_f32 above[CK_LIMITS] = {{0}};
    ck_masses whole = {{0}, {0}};
    for (size_t at = 0; at < n; at += CK_SAMPLED) {
        const size_t count = n - at < CK_SAMPLED ? n - at : CK_SAMPLED;
        ck_f32 s[4] = {{0}, {0}, {0}, {0}};
        CK_SWEEP(count, {
            const ck_f32 v = ck_tempered(x + at + k, left, shift, temperature);
            const ck_f32 e = ck_only(ck_exp_any(v), left);
            ck_store(out + at + k, left, v);
            ck_store(values + k, CK_LANES, v);
            ck_store(weights + k, CK_LANES, e);
            s[j] += e;
        });
        whole = ck_add_masses(whole, (s[0] + s[1]) + (s[2] + s[3]));
        ck_add_above(weights, values, (count + CK_LANES - 1) / CK_LANES * CK_LANES, limits, above);
    }
    for (size_t i = 0; i < CK_LIMITS; i++) sums[i] = ck_sum_lanes(above[i]);
    return ck_join_masses(whole);
}

static size_t ck_row_select(const float *x, size_t n, float low, float high, float shift, uint32_t *indices, float *values,
                            size_t capacity) {
    size_t found = 0, k = 0;
    for (; k + CK_LANES <= n && found + CK_LANES <= capacity; k += CK_LANES) {
        const ck_f32 v = ck_load(x + k, CK_LANES);
        found = ck_append((v >= low) & (v <= high), k, v - shift, indices, values, found);
    }
    for (; k < n; k++) {
        if (!(x[k] >= low && x[k] <= high)) continue;
        if (found < capacity) {
            indices[found] = (uint32_t)k;
            values[found] = x[k] - shift;
        }
        found++;
    }
    return found;
}

static void ck_row_drop_below(float *x, const float *by, size_t n, float limit) {
    CK_SWEEP(n, { ck_store(x + k, left, ck_select(ck_load(by + k, left) < limit, ck_all(0), ck_load(x + k, left))); });
}

#pragma clang assume_nonnull end
