// SPDX-License-Identifier: Apache-2.0
//
// How a packed byte comes apart in 32-byte registers, for avx2.c and avxvnni.c. A 64-byte vector of the layout is two
// halves of eight rows each.
#pragma once
#include "weights.h"

/// The low 16 bytes of a table, for both lanes.
#define CK_TABLE(...) _mm256_broadcastsi128_si256(_mm_setr_epi8(__VA_ARGS__))

/// ck_q6_spread with shuffles within 16 bytes: the exponent's byte comes in with the codes. (From vectors of the compiler's
/// own, clang 21 makes a permutation across lanes of each load.)
CK_INLINE ck_f32 ck_q6_spread_256(const uint8_t *codes) {
    const __m256i mask = _mm256_setr_epi32((int)0xff3f0000, (int)0xff0fc000, (int)0xff03f000, (int)0xff00fc00,
                                           (int)0xff3f0000, (int)0xff0fc000, (int)0xff03f000, (int)0xff00fc00);
    const __m256i first = _mm256_setr_epi8(0, 0, 0, 15, 0, 0, 1, 15, 0, 1, 2, 15, 0, 2, 0, 15,
                                           0, 0, 3, 15, 0, 3, 4, 15, 0, 4, 5, 15, 0, 5, 0, 15);
    const __m256i second = _mm256_setr_epi8(0, 0, 6, 15, 0, 6, 7, 15, 0, 7, 8, 15, 0, 8, 0, 15,
                                            0, 0, 9, 15, 0, 9, 10, 15, 0, 10, 11, 15, 0, 11, 0, 15);
    __m256i v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)codes));
    v = _mm256_blend_epi32(v, _mm256_set1_epi32(0x40404040), 0x88);
    const __m256i half[2] = {_mm256_and_si256(mask, _mm256_shuffle_epi8(v, first)),
                             _mm256_and_si256(mask, _mm256_shuffle_epi8(v, second))};
    ck_f32 out;
    __builtin_memcpy(&out, half, sizeof out);
    return out;
}
#define CK_Q6_SPREAD ck_q6_spread_256

CK_INLINE __m256i ck_broadcast(const int8_t *x) {
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
}

/// v mod m for v < 3m: of v, v - m and v - 2m the ones below zero wrap round to large values.
CK_INLINE __m256i ck_mod(__m256i v, int m) {
    const __m256i less = _mm256_sub_epi8(v, _mm256_set1_epi8((char)m));
    const __m256i lesser = _mm256_sub_epi8(v, _mm256_set1_epi8((char)(2 * m)));
    return _mm256_min_epu8(v, _mm256_min_epu8(less, lesser));
}

/// The lower two digits; the upper three in place: 9 d2, 27 d3, 81 d4.
CK_INLINE void ck_planes(const uint8_t *bytes, __m256i *plane) {
    const __m256i b = _mm256_loadu_si256((const __m256i *)bytes);
    const __m256i v4 = ck_mod(b, 81), v3 = ck_mod(v4, 27), v2 = ck_mod(v3, 9);
    plane[0] = _mm256_shuffle_epi8(CK_TABLE(0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0), v2);
    plane[1] = _mm256_shuffle_epi8(CK_TABLE(0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0), v2);
    plane[2] = _mm256_sub_epi8(v3, v2);
    plane[3] = _mm256_sub_epi8(v4, v3);
    plane[4] = _mm256_sub_epi8(b, v4);
}

/// All five digits, 0...2.
CK_INLINE void ck_digits(const uint8_t *bytes, __m256i *digit) {
    ck_planes(bytes, digit);
    const __m256i low = _mm256_set1_epi8(3);
    digit[2] = _mm256_and_si256(digit[2], low);  // 9 & 3 = 1, 18 & 3 = 2
    // 27 is 16 + 11 and 54 is 48 + 6.
    digit[3] = _mm256_shuffle_epi8(CK_TABLE(0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0), digit[3]);
    digit[4] = _mm256_and_si256(digit[4], low);  // 81 & 3 = 1, 162 & 3 = 2
}
