// SPDX-License-Identifier: Apache-2.0
//
// AVX-512 with VNNI but without VBMI (Cascade Lake, Cooper Lake): digits come off one by one, b mod 81, mod 27, mod 9;
// the differences are the upper planes in place, and the last two digits go through tables of nine.
#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(                                                                      \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi,bmi2"))), \
    apply_to = function)

#define CK_CHAINS 8
#define CK_COMPRESSES
#include "rows.h"
#include "tables.h"

/// v mod m for v < 3m: of v, v - m and v - 2m the ones below zero wrap round to large values.
CK_INLINE __m512i ck_mod(__m512i v, int m) {
    const __m512i less = _mm512_sub_epi8(v, _mm512_set1_epi8((char)m));
    const __m512i lesser = _mm512_sub_epi8(v, _mm512_set1_epi8((char)(2 * m)));
    return _mm512_min_epu8(v, _mm512_min_epu8(less, lesser));
}

/// Sixteen bytes as a table, indexed by bytes below 16.
#define CK_TABLE(...) _mm512_broadcast_i32x4(_mm_setr_epi8(__VA_ARGS__))

typedef struct ck_parts {
    __m512i v2, plane[3];
} ck_parts;

CK_INLINE ck_parts ck_apart(__m512i b) {
    const __m512i v4 = ck_mod(b, 81), v3 = ck_mod(v4, 27), v2 = ck_mod(v3, 9);
    return (ck_parts){v2, {_mm512_sub_epi8(v3, v2), _mm512_sub_epi8(v4, v3), _mm512_sub_epi8(b, v4)}};
}
#define CK_WEIGHT(p) ((p) < 2 ? 1 : (p) == 2 ? 9 : (p) == 3 ? 27 : 81)
// All odd: an inverse modulo 2^32 gives the right quotient of a sum that overflowed, too.
#define CK_IN_PLACE_MOST CK_MOST_COLUMNS
CK_INLINE __m512i ck_plane(size_t p, ck_parts parts) {
    if (p == 0) return _mm512_shuffle_epi8(CK_TABLE(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0), parts.v2);
    if (p == 1) return _mm512_shuffle_epi8(CK_TABLE(0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0), parts.v2);
    return parts.plane[p - 2];
}
CK_INLINE __m512i ck_digit(size_t p, ck_parts parts) {
    const __m512i plane = ck_plane(p, parts);
    // 27 is 16 + 11 and 54 is 48 + 6.
    if (p == 3) return _mm512_shuffle_epi8(CK_TABLE(0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0), plane);
    return p < 2 ? plane : _mm512_and_si512(plane, _mm512_set1_epi8(3));  // 9 and 81 & 3 = 1, 18 and 162 & 3 = 2
}
#define CK_AHEAD 0
#define CK_STRIPS_FROM 9

#include "avx512.h"

const ck_table ck_avx512vnni = {
    .name = "avx512vnni", .matmul = ck_product, .dot_peak = ck_dot_peak, CK_ROW_OPERATIONS};

#pragma clang attribute pop
#endif
