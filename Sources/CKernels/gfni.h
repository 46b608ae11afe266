// SPDX-License-Identifier: Apache-2.0
//
// How a vector of packed bytes comes apart by six look-ups in 64 entries and one product of bit matrices. Part of the tables for CPUs
// with GFNI; avx512.h says what it defines.
//
// b = 27 e + m. Two indices of six bits are made, one that tells m (digits 0, 1, 2) and one that tells e (digits 3, 4). With
// s = b / 4, its lowest bit moved to the top:
//
//   r = b - base[s], where base is 27 e' - 5 or 27 e' - 32 and e' belongs to the first of the four bytes that share s. So
//       r is m + 5 (5...31) or m + 32 (32...58), which is to say: where e changes among the four, bit 5 of r tells.
//   z = b / 8, and bit 5 of r above it. Among eight bytes e takes two values at most, and base is chosen so that bit 5 of r
//       is 0 for the first and 1 for the second.
#pragma once
#include "vector.h"

// 64 entries from a macro of one.
#define CK_4(f, i) f(i), f(i + 1), f(i + 2), f(i + 3)
#define CK_16(f, i) CK_4(f, i), CK_4(f, i + 4), CK_4(f, i + 8), CK_4(f, i + 12)
#define CK_64(f) {CK_16(f, 0), CK_16(f, 16), CK_16(f, 32), CK_16(f, 48)}
// e of the first of eight and of the first of four bytes.
#define CK_E8(s) (((s) & 31) * 8 / 27)
#define CK_E4(s) ((((s) & 31) * 8 + ((s) >> 5) * 4) / 27)
#define CK_BASE(s) (uint8_t)(CK_E4(s) * 27 - (CK_E4(s) == CK_E8(s) ? 5 : 32))
#define CK_M(r) (((r) + 22) % 27)
#define CK_E(z) (CK_E8(z) + ((z) >> 5))
#define CK_D0(r) (CK_M(r) % 3)
#define CK_D1(r) (CK_M(r) / 3 % 3)
#define CK_D2(r) (CK_M(r) / 9)
#define CK_D3(z) (CK_E(z) % 3)
#define CK_D4(z) (CK_E(z) / 3 % 3)

static const uint8_t ck_base[64] __attribute__((aligned(64))) = CK_64(CK_BASE);
static const uint8_t ck_digits[5][64] __attribute__((aligned(64))) = {CK_64(CK_D0), CK_64(CK_D1), CK_64(CK_D2),
                                                                     CK_64(CK_D3), CK_64(CK_D4)};
// The digits less one.
#define CK_T0(r) (uint8_t)(CK_D0(r) - 1)
#define CK_T1(r) (uint8_t)(CK_D1(r) - 1)
#define CK_T2(r) (uint8_t)(CK_D2(r) - 1)
#define CK_T3(z) (uint8_t)(CK_D3(z) - 1)
#define CK_T4(z) (uint8_t)(CK_D4(z) - 1)
static const uint8_t ck_trits[5][64] __attribute__((aligned(64), unused)) = {CK_64(CK_T0), CK_64(CK_T1), CK_64(CK_T2),
                                                                            CK_64(CK_T3), CK_64(CK_T4)};
/// The bits of b that make s, from bit 0 up, as a matrix of bits: b3, b4, b5, b6, b7, b2.
#define CK_S 0x0810204080040000

/// table[v mod 64], byte by byte.
CK_INLINE __m512i ck_look_up(const uint8_t *table, __m512i v) {
    return _mm512_permutexvar_epi8(v, _mm512_load_si512(table));
}

typedef struct ck_parts {
    __m512i r, z;
} ck_parts;

CK_INLINE ck_parts ck_apart(__m512i b) {
    const __m512i s = _mm512_gf2p8affine_epi64_epi8(b, _mm512_set1_epi64(CK_S), 0);
    const __m512i r = _mm512_sub_epi8(b, ck_look_up(ck_base, s));
    // Bit by bit: 32 ? r : s.
    return (ck_parts){r, _mm512_ternarylogic_epi32(_mm512_set1_epi8(32), r, s, 0xca)};
}
CK_INLINE __m512i ck_digit(size_t p, ck_parts parts) { return ck_look_up(ck_digits[p], p < 3 ? parts.r : parts.z); }
CK_INLINE __m512i ck_plane(size_t p, ck_parts parts) { return ck_digit(p, parts); }
/// Plane p as trits -1...1.
CK_INLINE __m512i ck_trit(size_t p, ck_parts parts) { return ck_look_up(ck_trits[p], p < 3 ? parts.r : parts.z); }
