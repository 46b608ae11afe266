// SPDX-License-Identifier: Apache-2.0
//
// Products in AMX's tile registers, for avx512amx.c, which defines CK_AMX_FROM, the rows from which on they pay. A vector of 64
// digits, 16 rows by 4 columns, is one row of tdpbssd's second operand as it is: sixteen of them, stored one after the other, are
// that operand, 16 rows of the matrix by 64 columns. Rows of activations are its first operand, sixteen at a time, 64 columns of
// a row together: they are turned into that order first. A product of the two takes sixteen cycles, or as many as there are rows,
// in a unit of its own, while the others take the next vectors apart. Digits are trits here, -1...1: sums need nothing taken off.
#pragma once
#include "weights.h"

#pragma clang assume_nonnull begin

enum {
    CK_OPERAND = 1024,                ///< bytes of a tile register: 16 rows of 64
    CK_STEP = 16,                     ///< vectors of a tile that come apart at once: five operands
    CK_STEP_OPERANDS = 5,
    CK_AMX_ROWS = 32,                 ///< rows of activations at once: two operands
    CK_TURNED_BYTES = 128 << 10,      ///< activations in the order of operands: they stay in the second-level cache
};

/// What ldtilecfg reads.
typedef struct ck_tile_shapes {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} ck_tile_shapes;

/// Shapes of eight registers: sums and activations of the first and the second sixteen rows; digits.
CK_INLINE void ck_shape_tiles(size_t rows) {
    ck_tile_shapes shapes = {.palette = 1};
    const uint8_t first = rows < 16 ? (uint8_t)rows : 16, second = rows <= 16 ? first : (uint8_t)(rows - 16);
    const uint8_t counts[8] = {first, first, second, second, first, second, 16, 16};
    for (size_t i = 0; i < 8; i++) shapes.bytes[i] = 64, shapes.rows[i] = counts[i];
    _tile_loadconfig(&shapes);
}

/// Sixteen groups of four columns of eight rows, from a group of a K4T block of eight on: out[t] = 64 bytes of row t.
CK_INLINE void ck_turn_eight(const int8_t *x, int8_t *out) {
    // A vector has eight rows of two groups. First rows 0...3 and rows 4...7 of four groups each:
    ck_i32 quarters[2][4], two[2];
    for (size_t j = 0; j < 4; j++) {
        __builtin_memcpy(two, x + 128 * j, sizeof two);
        quarters[0][j] = __builtin_shufflevector(two[0], two[1], 0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
        quarters[1][j] = __builtin_shufflevector(two[0], two[1], 4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31);
    }
    // Then a row's four quarters beside each other.
    for (size_t h = 0; h < 2; h++, out += 4 * 64) {
        const ck_i32 *from = quarters[h];
#define CK_HALVES(a, b, i) __builtin_shufflevector(a, b, i, i + 1, i + 2, i + 3, i + 4, i + 5, i + 6, i + 7, i + 16, i + 17, i + 18, \
                                                   i + 19, i + 20, i + 21, i + 22, i + 23)
#define CK_EVERY_OTHER(a, b, i) __builtin_shufflevector(a, b, i, i + 1, i + 2, i + 3, i + 8, i + 9, i + 10, i + 11, i + 16, i + 17, \
                                                        i + 18, i + 19, i + 24, i + 25, i + 26, i + 27)
        const ck_i32 low[2] = {CK_HALVES(from[0], from[1], 0), CK_HALVES(from[2], from[3], 0)};
        const ck_i32 high[2] = {CK_HALVES(from[0], from[1], 8), CK_HALVES(from[2], from[3], 8)};
        const ck_i32 rows[4] = {CK_EVERY_OTHER(low[0], low[1], 0), CK_EVERY_OTHER(low[0], low[1], 4),
                                CK_EVERY_OTHER(high[0], high[1], 0), CK_EVERY_OTHER(high[0], high[1], 4)};
#undef CK_HALVES
#undef CK_EVERY_OTHER
        __builtin_memcpy(out, rows, sizeof rows);
    }
}

/// Groups group...group + 15 of a K4T block of `rows` rows and `groups` groups: 64 bytes a row; zero beyond the last group.
CK_INLINE void ck_turn_operand(const int8_t *block, size_t rows, size_t groups, size_t group, int8_t *out) {
    if (rows == CK_BLOCK && group + 16 <= groups) return ck_turn_eight(block + group * 4 * CK_BLOCK, out);
    for (size_t t = 0; t < rows; t++) {
        for (size_t g = 0; g < 16; g++) {
            int32_t four = 0;
            if (group + g < groups) __builtin_memcpy(&four, block + ((group + g) * rows + t) * 4, 4);
            __builtin_memcpy(out + t * 64 + g * 4, &four, 4);
        }
    }
}

/// Trits of vectors begin..<end of a step of one or two tiles `bytes` apart: operand k of tile i at (5 i + k) CK_OPERAND.
CK_INLINE void ck_trits_apart(const uint8_t *w, size_t bytes, size_t tiles, size_t begin, size_t end, uint8_t *trits) {
    for (size_t v = begin; v < end; v++) {
        for (size_t i = 0; i < tiles; i++) {
            const uint8_t *from = w + i * bytes + v * CK_VECTOR_BYTES;
            if (tiles == 2) {
                ck_ask(from + 2 * bytes);
            } else {
                ck_ask_ahead(from);
            }
            const ck_parts parts = ck_open(from);
            for (size_t p = 0; p < 5; p++) {
                _mm512_store_si512(trits + ((i * CK_STEP + v) * 5 + p) * CK_VECTOR_BYTES, ck_trit(p, parts));
            }
        }
    }
}

/// What is left of `vectors` vectors at v: operands of this step, and vectors of the next.
typedef struct ck_step {
    size_t operands, next;
} ck_step;

CK_INLINE ck_step ck_step_at(size_t v, size_t vectors) {
    const size_t left = vectors - v, after = left < CK_STEP ? 0 : left - CK_STEP;
    return (ck_step){left < CK_STEP ? (left * 5 + 15) / 16 : CK_STEP_OPERANDS, after < CK_STEP ? after : CK_STEP};
}

/// The k-th fifth of the next step's vectors, which come apart while this step is multiplied.
CK_INLINE void ck_fifth_apart(const uint8_t *w, size_t bytes, size_t tiles, size_t k, size_t count, uint8_t *trits) {
    const size_t begin = k * CK_STEP / 5, end = (k + 1) * CK_STEP / 5;
    ck_trits_apart(w, bytes, tiles, begin < count ? begin : count, end < count ? end : count, trits);
}

/// One tile of `vectors` vectors times up to 16 rows; turned: [operands]. To y, or added to it. Few rows take less time than their
/// weights' way from memory, so weights are read as one stream.
static void ck_narrow(const uint8_t *w, size_t vectors, const int8_t *turned, size_t rows, int add, int32_t *y, size_t stride) {
    uint8_t trits[2][CK_STEP_OPERANDS * CK_OPERAND] __attribute__((aligned(64)));
    _tile_zero(0), _tile_zero(1), _tile_zero(2), _tile_zero(3);
    ck_trits_apart(w, 0, 1, 0, vectors < CK_STEP ? vectors : CK_STEP, trits[0]);
    for (size_t v = 0, s = 0; v < vectors; v += CK_STEP, s ^= 1) {
        const ck_step step = ck_step_at(v, vectors);
#pragma clang loop unroll(full)
        for (size_t k = 0; k < CK_STEP_OPERANDS; k++) {
            if (k < step.operands) {
                // Four sums: a product waits for the one before it in its own.
                const uint8_t *from = trits[s] + k * CK_OPERAND;
                if (k % 2 == 0) {
                    _tile_loadd(4, turned, 64);
                    _tile_loadd(6, from, 64);
                } else {
                    _tile_loadd(5, turned, 64);
                    _tile_loadd(7, from, 64);
                }
                switch (k % 4) {
                    case 0: _tile_dpbssd(0, 4, 6); break;
                    case 1: _tile_dpbssd(1, 5, 7); break;
                    case 2: _tile_dpbssd(2, 4, 6); break;
                    default: _tile_dpbssd(3, 5, 7); break;
                }
                turned += CK_OPERAND;
            }
            ck_fifth_apart(w + (v + CK_STEP) * CK_VECTOR_BYTES, 0, 1, k, step.next, trits[s ^ 1]);
        }
    }
    int32_t sums[4][16][16] __attribute__((aligned(64)));
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
    for (size_t t = 0; t < rows; t++) {
        const __m512i low = _mm512_add_epi32(_mm512_load_si512(sums[0][t]), _mm512_load_si512(sums[1][t]));
        __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums[2][t]), _mm512_load_si512(sums[3][t]));
        sum = _mm512_add_epi32(sum, low);
        if (add) sum = _mm512_add_epi32(sum, _mm512_loadu_si512(y + t * stride));
        _mm512_storeu_si512(y + t * stride, sum);
    }
}

/// Two tiles of `vectors` vectors, `bytes` apart, times 17 to 32 rows; turned: [operands][two]. To y, or added to it.
static void ck_wide(const uint8_t *w, size_t bytes, size_t vectors, const int8_t *turned, size_t rows, int add, int32_t *y,
                    size_t stride) {
    uint8_t trits[2][2 * CK_STEP_OPERANDS * CK_OPERAND] __attribute__((aligned(64)));
    _tile_zero(0), _tile_zero(1), _tile_zero(2), _tile_zero(3);
    ck_trits_apart(w, bytes, 2, 0, vectors < CK_STEP ? vectors : CK_STEP, trits[0]);
    for (size_t v = 0, s = 0; v < vectors; v += CK_STEP, s ^= 1) {
        const ck_step step = ck_step_at(v, vectors);
#pragma clang loop unroll(full)
        for (size_t k = 0; k < CK_STEP_OPERANDS; k++) {
            if (k < step.operands) {
                const uint8_t *from = trits[s] + k * CK_OPERAND;
                _tile_loadd(6, from, 64);
                _tile_loadd(7, from + CK_STEP_OPERANDS * CK_OPERAND, 64);
                _tile_loadd(4, turned, 64);
                _tile_loadd(5, turned + CK_OPERAND, 64);
                _tile_dpbssd(0, 4, 6);
                _tile_dpbssd(1, 4, 7);
                _tile_dpbssd(2, 5, 6);
                _tile_dpbssd(3, 5, 7);
                turned += 2 * CK_OPERAND;
            }
            ck_fifth_apart(w + (v + CK_STEP) * CK_VECTOR_BYTES, bytes, 2, k, step.next, trits[s ^ 1]);
        }
    }
    int32_t sums[2][2][16][16] __attribute__((aligned(64)));
    _tile_stored(0, sums[0][0], 64);
    _tile_stored(1, sums[0][1], 64);
    _tile_stored(2, sums[1][0], 64);
    _tile_stored(3, sums[1][1], 64);
    for (size_t t = 0; t < rows; t++) {
        for (size_t i = 0; i < 2; i++) {
            int32_t *to = y + t * stride + i * CK_TILE_ROWS;
            __m512i sum = _mm512_load_si512(sums[t / 16][i][t % 16]);
            if (add) sum = _mm512_add_epi32(sum, _mm512_loadu_si512(to));
            _mm512_storeu_si512(to, sum);
        }
    }
}

/// Tiles begin..<end, an even number of them for more than 16 rows, by up to 32 rows; `values` their K4T blocks.
static __attribute__((noinline)) void ck_tiles_in_amx(const uint8_t *packed, size_t vectors, size_t begin, size_t end, const int8_t *values,
                                                      size_t rows, int32_t *y, size_t stride) {
    int8_t turned[CK_TURNED_BYTES] __attribute__((aligned(64)));
    const int wide = rows > 16;
    const size_t each = wide ? 2 : 1, groups = 5 * vectors, bytes = vectors * CK_VECTOR_BYTES;
    const size_t most = CK_TURNED_BYTES / (each * CK_OPERAND * CK_STEP_OPERANDS) * CK_STEP;
    ck_shape_tiles(rows);
    for (size_t v = 0; v < vectors; v += most) {
        const size_t count = vectors - v < most ? vectors - v : most;
        for (size_t group = 5 * v, k = 0; group < 5 * (v + count); group += 16, k++) {
            for (size_t t = 0; t < rows; t += CK_BLOCK) {
                const size_t n = rows - t < CK_BLOCK ? rows - t : CK_BLOCK;
                ck_turn_operand(values + t * groups * 4, n, 5 * (v + count), group, turned + k * each * CK_OPERAND + t * 64);
            }
        }
        for (size_t tile = begin; tile < end; tile += each) {
            const uint8_t *w = packed + tile * bytes + v * CK_VECTOR_BYTES;
            int32_t *to = y + tile * CK_TILE_ROWS;
            if (wide) {
                ck_wide(w, bytes, count, turned, rows, v != 0, to, stride);
            } else {
                ck_narrow(w, count, turned, rows, v != 0, to, stride);
            }
        }
    }
}

static void ck_amx_product(const uint8_t *packed, size_t columns, size_t tile_begin, size_t tile_end, const int8_t *values,
                           const int32_t *sums, size_t T, int32_t *y, size_t stride) {
    if (T < CK_AMX_FROM) return ck_product(packed, columns, tile_begin, tile_end, values, sums, T, y, stride);
    const size_t padded = ck_padded_columns(columns), vectors = padded / CK_VECTOR_COLUMNS;
    const size_t pairs_end = tile_end - (tile_end - tile_begin) % 2;
    for (size_t t = 0; t < T; t += CK_AMX_ROWS) {
        const size_t rows = T - t < CK_AMX_ROWS ? T - t : CK_AMX_ROWS, end = rows > 16 ? pairs_end : tile_end;
        const int8_t *x = values + t * padded;
        ck_tiles_in_amx(packed, vectors, tile_begin, end, x, rows, y + t * stride, stride);
        if (end < tile_end) ck_product(packed, columns, end, tile_end, x, sums + t, rows, y + t * stride, stride);
    }
    _tile_release();
}

/// As ck_dot_peak, in tiles.
static uint64_t ck_amx_peak(uint64_t multiply_adds) {
    const uint64_t each = 16 * 16 * 64, rounds = multiply_adds / (4 * each) + 1;
    ck_shape_tiles(CK_AMX_ROWS);
    _tile_zero(0), _tile_zero(1), _tile_zero(2), _tile_zero(3);
    _tile_zero(4), _tile_zero(5), _tile_zero(6), _tile_zero(7);
    for (uint64_t r = 0; r < rounds; r++) {
        _tile_dpbssd(0, 4, 6);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(2, 5, 6);
        _tile_dpbssd(3, 5, 7);
    }
    _tile_release();
    return rounds * 4 * each;
}

#pragma clang assume_nonnull end
