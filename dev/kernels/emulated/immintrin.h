// SPDX-License-Identifier: Apache-2.0
//
// The 512-bit and VNNI intrinsics that CKernels uses, spelled out as Intel's manual defines them, for CPUs without AVX-512:
// `dev/check-kernels --emulated` puts this before the compiler's own immintrin.h. Slow; lanes are in memory order.
#pragma once
#include_next <immintrin.h>
#include <stdint.h>
#include <string.h>

#pragma clang attribute push(__attribute__((target("avx2,fma,bmi,bmi2"))), apply_to = function)
#define EMULATED static inline __attribute__((always_inline, unused))
#define EMULATED_APART static __attribute__((noinline, unused))

typedef uint8_t e_u8 __attribute__((vector_size(64)));
typedef uint16_t e_u16 __attribute__((vector_size(64)));
typedef uint32_t e_u32 __attribute__((vector_size(64)));
typedef int32_t e_i32 __attribute__((vector_size(64)));

EMULATED __m512i e_load(const void *p) {
    __m512i v;
    memcpy(&v, p, sizeof v);
    return v;
}
EMULATED void e_store(void *p, __m512i v) { memcpy(p, &v, sizeof v); }
EMULATED __m512i e_zero(void) { return (__m512i)(e_u8){0}; }
EMULATED __m512i e_set8(char x) { return (__m512i)((e_u8){0} + (uint8_t)x); }
EMULATED __m512i e_set32(int x) { return (__m512i)((e_u32){0} + (uint32_t)x); }
EMULATED __m512i e_set64(long long x) { return e_zero() + x; }
EMULATED __m512i e_add32(__m512i a, __m512i b) { return (__m512i)((e_u32)a + (e_u32)b); }
EMULATED __m512i e_sub8(__m512i a, __m512i b) { return (__m512i)((e_u8)a - (e_u8)b); }
EMULATED __mmask16 e_signs32(__m512i a) {
    __mmask16 mask = 0;
    for (int i = 0; i < 16; i++) mask |= (__mmask16)(((e_u32)a)[i] >> 31 << i);
    return mask;
}
EMULATED __m512i e_compress32(__mmask16 mask, __m512i a) {
    e_u32 out = {0};
    for (int i = 0, n = 0; i < 16; i++) {
        if (mask >> i & 1) out[n++] = ((e_u32)a)[i];
    }
    return (__m512i)out;
}
EMULATED __m512 e_add_masked(__m512 from, __mmask16 mask, __m512 a, __m512 b) {
    for (int i = 0; i < 16; i++) {
        if (mask >> i & 1) from[i] = a[i] + b[i];
    }
    return from;
}
EMULATED __m512i e_min8(__m512i a, __m512i b) { return (__m512i)__builtin_elementwise_min((e_u8)a, (e_u8)b); }
EMULATED __m512i e_mul32(__m512i a, __m512i b) { return (__m512i)((e_u32)a * (e_u32)b); }
EMULATED __m512i e_sra32(__m512i a, unsigned n) { return (__m512i)((e_i32)a >> (int)n); }
EMULATED __m512i e_srl16(__m512i a, unsigned n) { return (__m512i)((e_u16)a >> (uint16_t)n); }
EMULATED __m512i e_and(__m512i a, __m512i b) { return a & b; }
EMULATED __m512i e_broadcast128(__m128i a) {
    __m512i v;
    for (int i = 0; i < 4; i++) memcpy((char *)&v + 16 * i, &a, 16);
    return v;
}

/// vpdpbusd: unsigned bytes of u by signed bytes of s, four products added to each word, modulo 2^32.
EMULATED __m512i e_dot512(__m512i sum, __m512i u, __m512i s) {
    e_u32 out = (e_u32)sum;
    for (int i = 0; i < 32; i += 8) {
        out += ((e_u32)u >> (uint32_t)i & 0xffu) * (e_u32)((e_i32)((e_u32)s << (uint32_t)(24 - i)) >> 24);
    }
    return (__m512i)out;
}
EMULATED __m256i e_dot256(__m256i sum, __m256i u, __m256i s) {
    __m512i wide[3] = {e_zero(), e_zero(), e_zero()};
    memcpy(&wide[0], &sum, 32), memcpy(&wide[1], &u, 32), memcpy(&wide[2], &s, 32);
    wide[0] = e_dot512(wide[0], wide[1], wide[2]);
    memcpy(&sum, &wide[0], 32);
    return sum;
}

/// vpshufb: within each 16 bytes; an index with its top bit set gives zero.
EMULATED_APART __m512i e_shuffle8(__m512i table, __m512i index) {
    const uint8_t *t = (const uint8_t *)&table, *i = (const uint8_t *)&index;
    uint8_t out[64];
    for (int k = 0; k < 64; k++) out[k] = i[k] & 0x80 ? 0 : t[(k & 48) + (i[k] & 15)];
    return e_load(out);
}
/// vpermi2b: 128 bytes, seven bits of index. vpermb is the same with six bits and one register.
EMULATED_APART __m512i e_permute2(__m512i low, __m512i index, __m512i high) {
    const uint8_t *i = (const uint8_t *)&index;
    uint8_t t[128], out[64];
    memcpy(t, &low, 64), memcpy(t + 64, &high, 64);
    for (int k = 0; k < 64; k++) out[k] = t[i[k] & 127];
    return e_load(out);
}
EMULATED __m512i e_permute(__m512i index, __m512i table) { return e_permute2(table, index & e_set8(63), table); }

/// gf2p8affineqb: bit i of a byte is the parity of the byte and row 7 - i of the matrix of its eight bytes.
EMULATED_APART __m512i e_affine(__m512i x, __m512i matrix) {
    const uint8_t *b = (const uint8_t *)&x, *m = (const uint8_t *)&matrix;
    uint8_t out[64] = {0};
    for (int k = 0; k < 64; k++) {
        for (int i = 0; i < 8; i++) out[k] |= (uint8_t)(__builtin_parity(b[k] & m[(k & 56) + 7 - i]) << i);
    }
    return e_load(out);
}
/// vpternlogd: bit (a << 2 | b << 1 | c) of the constant, bit by bit.
EMULATED __m512i e_ternary(__m512i a, __m512i b, __m512i c, int table) {
    __m512i out = e_zero();
    for (int i = 0; i < 8; i++) {
        if (table >> i & 1) out |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    }
    return out;
}

// AMX: eight registers of up to 16 rows of 64 bytes, shaped by ldtilecfg; rows and bytes beyond the shape are zero.
static struct e_tile {
    unsigned rows, bytes;
    uint8_t row[16][64];
} e_tiles[8];
EMULATED void e_tile_shapes(const void *shapes) {
    const uint8_t *p = (const uint8_t *)shapes;
    memset(e_tiles, 0, sizeof e_tiles);
    for (int i = 0; i < 8; i++) e_tiles[i].rows = p[48 + i], e_tiles[i].bytes = p[16 + 2 * i];
}
EMULATED void e_tile_release(void) { memset(e_tiles, 0, sizeof e_tiles); }
EMULATED void e_tile_zero(int i) { memset(e_tiles[i].row, 0, sizeof e_tiles[i].row); }
EMULATED void e_tile_load(int i, const void *p, size_t stride) {
    e_tile_zero(i);
    for (unsigned r = 0; r < e_tiles[i].rows; r++) memcpy(e_tiles[i].row[r], (const char *)p + r * stride, e_tiles[i].bytes);
}
EMULATED void e_tile_store(int i, void *p, size_t stride) {
    for (unsigned r = 0; r < e_tiles[i].rows; r++) memcpy((char *)p + r * stride, e_tiles[i].row[r], e_tiles[i].bytes);
}
/// tdpbssd: c[m][n] += sum over k of a[m][k] b[k / 4][4 n + k % 4], signed bytes, modulo 2^32.
EMULATED_APART void e_tile_dot(int c, int a, int b) {
    for (unsigned m = 0; m < e_tiles[c].rows; m++) {
        e_u32 sums = (e_u32)e_load(e_tiles[c].row[m]);
        for (unsigned k = 0; k < e_tiles[a].bytes; k++) {
            const e_u32 four = (e_u32)e_load(e_tiles[b].row[k / 4]);
            sums += (e_u32)((e_i32)(four << (24 - k % 4 * 8)) >> 24) * (uint32_t)(int8_t)e_tiles[a].row[m][k];
        }
        e_store(e_tiles[c].row[m], (__m512i)sums);
    }
}

#pragma clang attribute pop

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#define _tile_loadconfig e_tile_shapes
#define _tile_release e_tile_release
#define _tile_zero e_tile_zero
#define _tile_loadd e_tile_load
#define _tile_stored e_tile_store
#define _tile_dpbssd e_tile_dot
#undef _mm512_dpbusd_epi32
#undef _mm256_dpbusd_avx_epi32
#undef _mm512_gf2p8affine_epi64_epi8
#undef _mm512_ternarylogic_epi32
#define _mm512_load_si512 e_load
#define _mm512_loadu_si512 e_load
#define _mm512_store_si512 e_store
#define _mm512_storeu_si512 e_store
#define _mm512_setzero_si512 e_zero
#define _mm512_set1_epi8 e_set8
#define _mm512_set1_epi32 e_set32
#define _mm512_set1_epi64 e_set64
#define _mm512_add_epi32 e_add32
#define _mm512_movepi32_mask e_signs32
#define _mm512_maskz_compress_epi32 e_compress32
#define _mm512_mask_add_ps e_add_masked
#define _mm512_sub_epi8 e_sub8
#define _mm512_min_epu8 e_min8
#define _mm512_mullo_epi32 e_mul32
#define _mm512_srai_epi32 e_sra32
#define _mm512_srli_epi16 e_srl16
#define _mm512_and_si512 e_and
#define _mm512_broadcast_i32x4 e_broadcast128
#define _mm512_dpbusd_epi32 e_dot512
#define _mm256_dpbusd_avx_epi32 e_dot256
#define _mm512_shuffle_epi8 e_shuffle8
#define _mm512_permutex2var_epi8 e_permute2
#define _mm512_permutexvar_epi8 e_permute
#define _mm512_gf2p8affine_epi64_epi8(x, matrix, constant) e_affine(x, matrix)
#define _mm512_ternarylogic_epi32 e_ternary
