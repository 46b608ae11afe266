// SPDX-License-Identifier: Apache-2.0
//
// Products with 512-bit vpdpbusd: an accumulator holds one tile (16 rows) for one row of activations. Included by the
// avx512*.c files, which define how a vector of packed bytes comes apart:
//
//   ck_parts, ck_apart(bytes)   what all planes are made of
//   ck_plane(p, parts)          plane p where it is in the byte, times CK_WEIGHT(p): cheapest to get
//   ck_digit(p, parts)          plane p as digits 0...2: a little more work, but digits can share an accumulator
//   CK_IN_PLACE_MOST            up to so many columns, sums of planes in place can be divided; beyond, only digits are summed
//   CK_AHEAD                    1: a vector's planes are made while its predecessor is multiplied. On CPUs whose two
//                               512-bit units do both, work of one kind at a time leaves one of them idle.
//   CK_STRIPS_FROM              from this many rows on, bytes come apart once, into the first-level cache, and all rows
//                               pass over them; for CPUs that multiply in the same units. Elsewhere it hides behind the
//                               products: SIZE_MAX.
#pragma once
#include "weights.h"

enum {
    CK_PAIRS_FROM = 5,  ///< from this many rows on, two tiles share each broadcast
    CK_FEW = 4,         ///< up to this many rows, planes stay in place, each with an accumulator of its own
};

CK_INLINE __m512i ck_broadcast(const int8_t *x) {
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
}

/// Divides out what a plane's place in the byte multiplied its sum by: exact, since the sum is a multiple of it. Odd factors
/// do so modulo 2^32; for powers of two the sum itself must fit (CK_IN_PLACE_MOST).
CK_INLINE __m512i ck_divide(__m512i sum, int weight) {
    switch (weight) {
        case 1: return sum;
        case 4: return _mm512_srai_epi32(sum, 2);
        case 16: return _mm512_srai_epi32(sum, 4);
        case 64: return _mm512_srai_epi32(sum, 6);
        case 9: return _mm512_mullo_epi32(sum, _mm512_set1_epi32(CK_INVERSE_9));
        case 27: return _mm512_mullo_epi32(sum, _mm512_set1_epi32(CK_INVERSE_27));
        default: return _mm512_mullo_epi32(sum, _mm512_set1_epi32(CK_INVERSE_81));
    }
}

CK_INLINE ck_parts ck_open(const uint8_t *w) { return ck_apart(_mm512_loadu_si512(w)); }
CK_INLINE __m512i ck_either(size_t p, ck_parts parts, int in_place) {
    return in_place ? ck_plane(p, parts) : ck_digit(p, parts);
}

CK_INLINE void ck_tiles_by_rows(const uint8_t *w, size_t vectors, size_t tiles, const int8_t *x, size_t rows,
                                const int32_t *sums, int32_t *y, size_t stride) {
    const int few = rows <= CK_FEW;
    const size_t sorts = few ? 5 : 1, bytes = vectors * CK_VECTOR_BYTES;
    __m512i acc[2][CK_BLOCK][5], plane[2][5];
    for (size_t i = 0; i < tiles; i++) {
        for (size_t t = 0; t < rows; t++) {
            for (size_t a = 0; a < sorts; a++) acc[i][t][a] = _mm512_setzero_si512();
        }
        if (CK_AHEAD) {
            const ck_parts parts = ck_open(w + i * bytes);
            for (size_t p = 0; p < 5; p++) plane[i][p] = ck_either(p, parts, few);
        }
    }
    for (size_t v = 0; v < vectors; v++, w += CK_VECTOR_BYTES, x += 20 * rows) {
        ck_parts parts[2];
        for (size_t i = 0; i < tiles; i++) {
            const uint8_t *from = w + i * bytes;
            // Behind a tile of a pair comes its neighbour; what is wanted next is the same place in the next pair.
            if (tiles == 2) {
                ck_ask(from + 2 * bytes);
            } else {
                ck_ask_ahead(from);
            }
            // The last one is its own successor.
            parts[i] = ck_open(from + (CK_AHEAD && v + 1 < vectors ? CK_VECTOR_BYTES : 0));
        }
#pragma clang loop unroll(full)
        for (size_t p = 0; p < 5; p++) {
            if (!CK_AHEAD) {
                for (size_t i = 0; i < tiles; i++) plane[i][p] = ck_either(p, parts[i], few);
            }
#pragma clang loop unroll(full)
            for (size_t t = 0; t < rows; t++) {
                const __m512i four = ck_broadcast(x + 4 * (p * rows + t));
                for (size_t i = 0; i < tiles; i++) {
                    __m512i *to = &acc[i][t][few ? p : 0];
                    *to = _mm512_dpbusd_epi32(*to, plane[i][p], four);
                }
            }
            if (CK_AHEAD) {
                for (size_t i = 0; i < tiles; i++) plane[i][p] = ck_either(p, parts[i], few);
            }
        }
    }
    for (size_t i = 0; i < tiles; i++) {
        for (size_t t = 0; t < rows; t++) {
            __m512i sum = _mm512_set1_epi32(-sums[t]);
            for (size_t a = 0; a < sorts; a++) {
                sum = _mm512_add_epi32(sum, ck_divide(acc[i][t][a], few ? CK_WEIGHT(a) : 1));
            }
            _mm512_storeu_si512(y + t * stride + i * CK_TILE_ROWS, sum);
        }
    }
}

#include "blocks.h"
#include "avx512strips.h"

static __attribute__((unused)) uint64_t ck_dot_peak(uint64_t multiply_adds) {
    __m512i acc[16], a = _mm512_set1_epi8(1), b = _mm512_set1_epi8(2);
    for (size_t i = 0; i < 16; i++) acc[i] = _mm512_setzero_si512();
    const uint64_t rounds = multiply_adds / (16 * 64) + 1;
    for (uint64_t r = 0; r < rounds; r++) {
        for (size_t i = 0; i < 16; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], a, b);
        __asm__ volatile("" : "+v"(a), "+v"(b));
    }
    for (size_t i = 0; i < 16; i++) __asm__ volatile("" : : "v"(acc[i]));
    return rounds * 16 * 64;
}
