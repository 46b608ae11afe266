// SPDX-License-Identifier: Apache-2.0
//
// Arithmetic on packed ternary matrices and the float row operations between them.
//
//   y[t][r] = sum_k trit[r][k] * q[t][k]      trit in {-1, 0, +1}, q int8 in [-127, 127], y int32, exact
//
// Every function is pure: no allocation, no threads, no I/O, no state. Every entry of every table gives the same bits:
// integer sums are exact, and float reductions have one defined order (docs/kernels.md), so a result does not depend on
// the instruction set.
//
// PACKED LAYOUT "R16K4T5"
//   Rows in tiles of 16. A tile is `vectors` consecutive 64-byte vectors; tiles follow each other. Byte i of a vector is
//   row tile*16 + i/4, and holds five digits d = trit + 1: byte = d0 + 3 d1 + 9 d2 + 27 d3 + 81 d4 (0..242); digit p is
//   column v*20 + 4p + i%4. Columns are padded to a multiple of 20 and rows to a multiple of 16 with trit 0.
//
// ACTIVATION LAYOUT "K4T"
//   T rows in blocks of CK_BLOCK (the last one shorter). A block of n rows takes n * padded columns bytes and starts at
//   first row * padded columns; inside it, columns 4g..4g+3 of row t stand at (g*n + t)*4. Padding columns are zero.
#pragma once
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

enum { CK_TILE_ROWS = 16, CK_VECTOR_BYTES = 64, CK_VECTOR_COLUMNS = 20, CK_BLOCK = 8 };

/// Columns a matrix may have: digits are 0...2 and activations within ±127, so a row's sum of d q stays within
/// 2 · 127 · 8,454,660 < 2^31, in every table and in any order of summation; a power of two below that.
enum { CK_MOST_COLUMNS = 1 << 23 };

/// Columns padded to the layout's multiple of 20.
static inline size_t ck_padded_columns(size_t columns) { return (columns + 19) / 20 * 20; }
/// Number of 16-row tiles.
static inline size_t ck_tiles(size_t rows) { return (rows + 15) / 16; }
/// Bytes of a packed matrix.
static inline size_t ck_packed_bytes(size_t rows, size_t columns) {
    return ck_tiles(rows) * (ck_padded_columns(columns) / 20) * 64;
}

// ---------------------------------------------------------------- packing (offline; scalar, no table)

/// Packs `rows` rows of trits (int8 -1/0/+1, [rows][columns] row-major) that begin at a tile boundary.
/// out: ck_packed_bytes(rows, columns).
void ck_pack(const int8_t *trits, size_t rows, size_t columns, uint8_t *out);
/// The reverse of ck_pack for a whole matrix or whole tiles of it.
void ck_unpack(const uint8_t *packed, size_t rows, size_t columns, int8_t *trits);
/// Index of the first byte above 242, or `count` if every byte is a valid code.
size_t ck_check_packed(const uint8_t *packed, size_t count);

// ---------------------------------------------------------------- activations

/// Where one row's quantised values go: element k of row `row` in a block of `rows` rows is
/// values[((k / 4) * rows + row) * 4 + k % 4].
typedef struct ck_quantised_row {
    int8_t *values;      ///< start of the row's block
    uint32_t rows;       ///< rows in the block, 1...CK_BLOCK
    uint32_t row;        ///< this row's place in it
    float *inverse;      ///< out: a = 127 / m (hgrnbit.md's a); a product's scale is s / a
    int32_t *sum;        ///< out: sum of the values
} ck_quantised_row;

/// Makes a K4T block of `count` rows (1...CK_BLOCK) that lie one after the other, each of ck_padded_columns(columns) values.
void ck_make_block(const int8_t *rows, size_t columns, size_t count, int8_t *out);

// ---------------------------------------------------------------- keys, values, positions

enum { CK_PAGE_TOKENS = 16 };  ///< positions in one page of keys and values

/// How numbers are stored. A row of n of a dense matrix takes n * 4 bytes, n * 2, or ck_q6_row_bytes(n).
enum ck_encoding { CK_F32 = 0, CK_F16 = 1, CK_BF16 = 2, CK_Q6 = 3 };

/// x rounded to the nearest bfloat16, to even; NaN stays NaN.
static inline uint16_t ck_bf16(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/// Where element e of one position's key of one head is among its page's keys: float32 [d][16 positions], bfloat16 the elements in
/// pairs, [d / 2][16 positions][2].
static inline size_t ck_key_place(enum ck_encoding encoding, size_t e, size_t position) {
    const size_t p = position % CK_PAGE_TOKENS;
    return encoding == CK_BF16 ? (e / 2 * CK_PAGE_TOKENS + p) * 2 + e % 2 : e * CK_PAGE_TOKENS + p;
}

/// One position's key of one head (d values) into its page's keys. encoding: CK_F32 or CK_BF16.
static inline void ck_store_key(enum ck_encoding encoding, void *page, const float *key, size_t d, size_t position) {
    if (encoding == CK_BF16) {
        uint16_t *to = (uint16_t *)page;
        for (size_t e = 0; e < d; e++) to[ck_key_place(CK_BF16, e, position)] = ck_bf16(key[e]);
    } else {
        float *to = (float *)page;
        for (size_t e = 0; e < d; e++) to[ck_key_place(CK_F32, e, position)] = key[e];
    }
}

/// One position's value of one head (d values) into its page's values, [16 positions][d]. encoding: CK_F32 or CK_BF16.
static inline void ck_store_value(enum ck_encoding encoding, void *page, const float *value, size_t d, size_t position) {
    const size_t first = position % CK_PAGE_TOKENS * d;
    if (encoding == CK_BF16) {
        uint16_t *to = (uint16_t *)page + first;
        for (size_t e = 0; e < d; e++) to[e] = ck_bf16(value[e]);
    } else {
        __builtin_memcpy((float *)page + first, value, d * 4);
    }
}

/// Cosines and sines of the angles fl(float(position) * frequencies[i]), [half] each, without the C library: the nearest
/// floats unless the true value is within 2^-50 of the middle between two. position < 2^20; NaN for angles beyond ±2^20.
void ck_rotation(const float *frequencies, size_t half, size_t position, float *cosines, float *sines);

// ---------------------------------------------------------------- the table

enum { CK_LIMITS = 8 };  ///< of masses_above and temper_above

typedef struct ck_table {
    const char *name;  ///< "scalar", "avx2", "avxvnni", "avx512vnni", "avx512vbmi", "avx512zen5",
                       ///< "avx512gfni", "avx512amx", "neon"

    /// Products for tiles [tile_begin, tile_end) and T rows; columns <= CK_MOST_COLUMNS. packed: first byte of the whole matrix. values, sums: K4T
    /// blocks and per-row sums of T rows. y: [T][stride] int32; rows beyond the matrix (padding up to the tile) are written
    /// too, so stride >= 16 * tiles.
    void (*matmul)(const uint8_t *packed, size_t columns, size_t tile_begin, size_t tile_end, const int8_t *values,
                   const int32_t *sums, size_t T, int32_t *y, size_t stride);

    /// x' = rms(x, outer, outer_eps) if outer is given, else x; then for each j < count: y = rms(x', weights[j], 1e-6),
    /// out[j] = int8 of y * a, a = 127 / max(max|y|, 1e-5), rounded half away from zero, clamped to ±127. n elements; pads
    /// the row with zeros to ck_padded_columns(n). scratch: n floats.
    void (*norm_quantise)(const float *x, size_t n, const float *_Nullable outer, float outer_eps,
                          const float *_Nonnull const *_Nonnull weights, size_t count, const ck_quantised_row *out,
                          float *scratch);

    /// h[k] += y[k] * scale.
    void (*add_scaled)(float *h, const int32_t *y, float scale, size_t n);
    /// out[k] = y[k] * scale.
    void (*scale)(float *out, const int32_t *y, float scale, size_t n);

    /// One step of the recurrence for n channels (any sub-range may be given):
    /// f = sigmoid(yf * sf), if bound: f = bound + (1 - bound) * f; v = silu(yi * si) * (1 - f); to = f * from + v;
    /// out = silu(to). `to` may be `from`.
    void (*recurrence)(const int32_t *yi, float si, const int32_t *yf, float sf, const float *_Nullable bound,
                       const float *from, float *to, float *out, size_t n);

    /// o = rms(yg * sg, gate_norm, eps) * gate[k]; then y = rms(o, weight, 1e-6) quantised into out. scratch: n floats.
    void (*gated_norm_quantise)(const int32_t *yg, float sg, size_t n, const float *gate_norm, float eps, const float *gate,
                                const float *weight, const ck_quantised_row *out, float *scratch);

    /// out[k] = silu(gate[k] * gate_scale) * (up[k] * up_scale), for n channels (any sub-range may be given).
    void (*swiglu)(const int32_t *gate, float gate_scale, const int32_t *up, float up_scale, size_t n, float *out);
    /// out[k] = max(g, 0)^2 * u with g = gate[k] * gate_scale and u = up[k] * up_scale (any sub-range may be given).
    void (*relu2)(const int32_t *gate, float gate_scale, const int32_t *up, float up_scale, size_t n, float *out);

    /// Of models with attention. x' = rms(x, outer, outer_eps) if outer is given, else x; for each j < count:
    /// y = rms(x', weights[j], eps), or x' where weights is NULL (then count is 1); out[j] = int8 of y * s,
    /// s = fl(fl(1 / m) * 127), m = max(max|y|, 1e-5), rounded half to even; within ±127. Pads as norm_quantise does;
    /// out.inverse = s. scratch: n floats; x may not be scratch.
    void (*norm_quantise_even)(const float *x, size_t n, const float *_Nullable outer, float outer_eps,
                               const float *_Nonnull const *_Nullable weights, float eps, size_t count,
                               const ck_quantised_row *out, float *scratch);
    /// For each of `heads` heads of d values (d even): x = y * scale; if norm is given: x = rms(x, norm, eps); then for
    /// i < d/2: out[i] = x[i] c[i] - x[i+d/2] s[i] and out[i+d/2] = x[i+d/2] c[i] + x[i] s[i], every product rounded.
    /// y, out: [heads][d]. norm: [d]. cosines c, sines s: [d/2].
    void (*rotate)(const int32_t *y, float scale, size_t heads, size_t d, const float *_Nullable norm, float eps,
                   const float *cosines, const float *sines, float *out);
    /// Attention of `heads` query heads that share one head of keys and values, over positions 0..<count (count >= 1).
    /// pages: [ceil(count / 16)]; page p has after `keys` numbers the keys (ck_store_key), and after `values` numbers the
    /// values, [16 positions][d]. Positions >= count of the last page may hold anything. encoding: CK_F32, or CK_BF16, of
    /// which every number is widened exactly (then d is even).
    /// z[j] = (sum over e of q[e] * key[j][e]) * scale, the sum one chain of fma from 0 in rising e; m = max z;
    /// w[j] = exp(z[j] - m); S = sum of w in the order of sum_exp; out[e] = (one chain of fma from 0 in rising j of
    /// w[j] * value[j][e]) / S. q, out: [heads][d]. scores: [heads][count rounded up to 16] floats of scratch.
    void (*attend)(enum ck_encoding encoding, const float *q, size_t heads, size_t d, const void *_Nonnull const *_Nonnull pages,
                   size_t keys, size_t values, size_t count, float scale, float *scores, float *out);
    /// Rows [begin, end) of a dense matrix in its stored form, rows of n values one after the other, times T vectors:
    /// out[t * stride + r] = sum over k of w[r][k] * x[t][k], with fma in the order of every float sum. x: [T][n].
    void (*dense)(enum ck_encoding encoding, const void *matrix, size_t n, size_t begin, size_t end, const float *x,
                  size_t T, float *out, size_t stride);

    /// out = rms(x, weight, eps).
    void (*norm)(const float *x, size_t n, const float *weight, float eps, float *out);

    /// Widens n stored values to float.
    void (*widen_f16)(const uint16_t *in, size_t n, float *out);
    void (*widen_bf16)(const uint16_t *in, size_t n, float *out);

    /// Largest value; lowest index on ties. n >= 1.
    size_t (*argmax)(const float *x, size_t n);
    /// sum over k of exp(x[k] - shift), in the defined order.
    float (*sum_exp)(const float *x, size_t n, float shift);
    /// sums[i] = the sum of those x[k] with by[k] >= limits[i] (by may be x), for CK_LIMITS limits: element k goes to lane k % 16 of one
    /// vector of sums, and lanes are joined as sum_exp's are.
    void (*masses_above)(const float *x, const float *by, size_t n, const float *limits, float *sums);
    /// The sum of those x[k] with by[k] >= limit (by may be x), in double precision: element k goes to lane k % 16; lanes are added 16 to
    /// 8 to 4 to 2 to 1.
    double (*mass_above)(const float *x, const float *by, size_t n, float limit);
    /// out[k] = exp(x[k] - shift) (out may be x).
    void (*exp_shifted)(const float *x, size_t n, float shift, float *out);
    /// out[k] = (x[k] - shift) / temperature, -infinity where that is NaN (out may be x).
    void (*temper)(const float *x, size_t n, float shift, float temperature, float *out);
    /// temper; returns the sum of exp(out[k]): of 256 at a time in the order of sum_exp, but that their sixteen lanes are added in double
    /// precision, over all of them first and then joined as mass_above's; and sums[i] as masses_above's, of exp(out[k]) by out[k].
    double (*temper_above)(const float *x, size_t n, float shift, float temperature, float *out, const float *limits, float *sums);
    /// Writes the index k and x[k] - shift of every x[k] from low to high, both included, ascending, at most `capacity`; returns how
    /// many there are in all. What lies beyond them in the two arrays, up to `capacity`, may change, too.
    size_t (*select)(const float *x, size_t n, float low, float high, float shift, uint32_t *indices, float *values,
                     size_t capacity);

    /// x[k] = 0 where by[k] < limit (by may be x).
    void (*drop_below)(float *x, const float *by, size_t n, float limit);

    /// Sum of all 64-bit words of `count` bytes (a multiple of 64): a plain reader, to measure read bandwidth with.
    uint64_t (*read_all)(const uint8_t *bytes, size_t count);
    /// Runs about `multiply_adds` int8 dot-product multiply-adds out of registers; returns how many it ran.
    uint64_t (*dot_peak)(uint64_t multiply_adds);
} ck_table;

/// The reference every other table must equal bit for bit.
extern const ck_table ck_scalar;
/// The fastest table this CPU can run.
const ck_table *ck_best(void);
/// The table called `name` if it was built in and this CPU can run it.
const ck_table *_Nullable ck_named(const char *name);
/// The i-th table of this build that this CPU can run (scalar first, best last), or NULL past the end.
const ck_table *_Nullable ck_runnable(size_t i);

/// Asks for `count` bytes to be brought towards the second-level cache. Never faults.
static inline void ck_read_ahead(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i += 64) __builtin_prefetch(bytes + i, 0, 2);
}

/// exp and log as the tables compute them (one polynomial everywhere; not libm's).
float ck_exp(float x);
float ck_log(float x);

// ---------------------------------------------------------------- q6 embeddings (scalar; rows are looked up, not multiplied)

enum { CK_Q6_BLOCK = 64 };
/// Bytes of one row of `n` values in q6: per block of 64 values, 48 bytes of 6-bit codes and 2+2 bytes of scales
/// (docs/format.md). A short last block is stored whole, padded with zeros.
size_t ck_q6_row_bytes(size_t n);
/// Encodes one row; deterministic (least squares over candidate scales).
void ck_q6_encode(const float *in, size_t n, uint8_t *out);
/// Decodes one row.
void ck_q6_decode(const uint8_t *in, size_t n, float *out);

#pragma clang assume_nonnull end
