// SPDX-License-Identifier: Apache-2.0
//
// How a vector of packed bytes comes apart by one look-up in 128 entries. Part of the tables for CPUs with VBMI; avx512.h says what it
// defines.
#pragma once
#include "vector.h"

#define CK_FOUR(v) (uint8_t)((v) % 3 | (v) / 3 % 3 << 2 | (v) / 9 % 3 << 4 | (v) / 27 % 3 << 6)
#define CK_NINE(v) CK_FOUR(v), CK_FOUR(v + 1), CK_FOUR(v + 2), CK_FOUR(v + 3), CK_FOUR(v + 4), CK_FOUR(v + 5), \
    CK_FOUR(v + 6), CK_FOUR(v + 7), CK_FOUR(v + 8)
/// d0 + 3 d1 + 9 d2 + 27 d3 -> d0 | d1 << 2 | d2 << 4 | d3 << 6.
static const uint8_t ck_fours[128] __attribute__((aligned(64))) = {
    CK_NINE(0), CK_NINE(9), CK_NINE(18), CK_NINE(27), CK_NINE(36), CK_NINE(45), CK_NINE(54), CK_NINE(63), CK_NINE(72)};

/// v mod m for v < 3m: of v, v - m and v - 2m the ones below zero wrap round to large values.
CK_INLINE __m512i ck_mod(__m512i v, int m) {
    const __m512i less = _mm512_sub_epi8(v, _mm512_set1_epi8((char)m));
    const __m512i lesser = _mm512_sub_epi8(v, _mm512_set1_epi8((char)(2 * m)));
    return _mm512_min_epu8(v, _mm512_min_epu8(less, lesser));
}

CK_INLINE __m512i ck_look_up(__m512i v) {
    return _mm512_permutex2var_epi8(_mm512_load_si512(ck_fours), v, _mm512_load_si512(ck_fours + 64));
}

typedef struct ck_parts {
    __m512i four, top;
} ck_parts;

CK_INLINE ck_parts ck_apart(__m512i b) {
    const __m512i v = ck_mod(b, 81);
    return (ck_parts){ck_look_up(v), _mm512_sub_epi8(b, v)};  // 81 d4
}
#define CK_WEIGHT(p) ((p) < 4 ? 1 << 2 * (p) : 81)
// 64 d3 is at most 128, of a fifth of the columns: 128 · 127 · 660,520 / 5 < 2^31. A shift cannot bring back what overflows.
#define CK_IN_PLACE_MOST 660520
CK_INLINE __m512i ck_plane(size_t p, ck_parts parts) {
    return p < 4 ? _mm512_and_si512(parts.four, _mm512_set1_epi8((char)(3 << 2 * p))) : parts.top;
}
CK_INLINE __m512i ck_digit(size_t p, ck_parts parts) {
    const __m512i low = _mm512_set1_epi8(3);
    if (p == 4) return _mm512_and_si512(parts.top, low);  // 81 & 3 = 1, 162 & 3 = 2
    return _mm512_and_si512(p ? _mm512_srli_epi16(parts.four, (unsigned)(2 * p)) : parts.four, low);
}
