// SPDX-License-Identifier: Apache-2.0
//
// Moves the lanes that are wanted to the front. AVX-512 has an operation for that; elsewhere lane after lane is written, and the next
// one over it if it was not wanted. No branch for each: whether one is wanted is anybody's guess.
#pragma once
#include "vector.h"

#pragma clang assume_nonnull begin

/// sum + v in the lanes of `hits` that are -1, sum in the others.
CK_INLINE ck_f32 ck_add_hits(ck_f32 sum, ck_i32 hits, ck_f32 v) {
#ifdef CK_COMPRESSES
    return (ck_f32)_mm512_mask_add_ps((__m512)sum, _mm512_movepi32_mask((__m512i)hits), (__m512)sum, (__m512)v);
#else
    return ck_select(hits, sum + v, sum);
#endif
}

/// Appends index k + i and value v[i] for each lane i of `hits` that is -1; returns how many there are then. Sixteen places of both
/// arrays from `found` on are written, whatever is taken.
CK_INLINE size_t ck_append(ck_i32 hits, size_t k, ck_f32 v, uint32_t *indices, float *values, size_t found) {
    const ck_i32 place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const ck_i32 index = place + (int32_t)k;
#ifdef CK_COMPRESSES
    const __mmask16 mask = _mm512_movepi32_mask((__m512i)hits);
    _mm512_storeu_si512(indices + found, _mm512_maskz_compress_epi32(mask, (__m512i)index));
    _mm512_storeu_si512(values + found, _mm512_maskz_compress_epi32(mask, (__m512i)v));
    return found + (size_t)__builtin_popcount(mask);
#else
    if (!__builtin_reduce_or(hits)) return found;
    if (__builtin_reduce_and(hits)) {
        __builtin_memcpy(indices + found, &index, sizeof index);
        __builtin_memcpy(values + found, &v, sizeof v);
        return found + CK_LANES;
    }
    int32_t hit[CK_LANES];
    float value[CK_LANES];
    __builtin_memcpy(hit, &hits, sizeof hit);
    __builtin_memcpy(value, &v, sizeof value);
#pragma clang loop unroll(full)
    for (size_t i = 0; i < CK_LANES; i++) {
        indices[found] = (uint32_t)(k + i);
        values[found] = value[i];
        found += (size_t)-hit[i];
    }
    return found;
#endif
}

#pragma clang assume_nonnull end
