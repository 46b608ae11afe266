// SPDX-License-Identifier: Apache-2.0
//
// Compares every table this CPU can run with the scalar one, bit for bit, over random shapes. A plain C program, so that
// dev/check-aarch64 can run it under an emulator where there is no Swift. Tests/KernelTests says the same and more.
#include "CKernels.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed = 0x9e3779b97f4a7c15u;
static unsigned passed, failed;

static uint32_t next(void) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (uint32_t)(seed >> 32);
}
static size_t below(size_t n) { return next() % n; }
static float uniform(void) { return (float)(int32_t)next() * 0x1p-31f; }

static void *room(size_t bytes) {
    void *p = malloc(bytes + 64);
    if (!p) abort();
    memset(p, 0x5a, bytes + 64);
    return p;
}

static void check(const char *table, const char *what, size_t n, const void *a, const void *b, size_t bytes) {
    if (memcmp(a, b, bytes) == 0) {
        passed++;
    } else {
        failed++;
        printf("%s: %s differs from scalar at size %zu\n", table, what, n);
    }
}

static void products(const ck_table *table) {
    for (int round = 0; round < 60; round++) {
        const size_t rows = 1 + below(70), columns = 1 + (round == 59 ? 7700 : below(round % 4 ? 150 : 900));
        const size_t T = round < 24 ? (size_t)round + 1 : round == 59 ? 33 : 1 + below(40);
        const size_t padded = ck_padded_columns(columns), stride = ck_tiles(rows) * 16 + below(9);
        const size_t bytes = ck_packed_bytes(rows, columns);
        uint8_t *packed = room(bytes);
        const int extreme = round % 5 == 0;
        for (size_t i = 0; i < bytes; i++) packed[i] = extreme ? (round % 2 ? 242 : 0) : (uint8_t)below(243);
        int8_t *values = room(T * padded);
        int32_t *sums = room(T * 4), *a = room(T * stride * 4), *b = room(T * stride * 4);
        for (size_t t = 0; t < T; t++) {
            const size_t first = t / CK_BLOCK * CK_BLOCK, n = T - first < CK_BLOCK ? T - first : CK_BLOCK;
            sums[t] = 0;
            for (size_t k = 0; k < padded; k++) {
                const int v = k >= columns ? 0 : extreme ? (round % 3 ? 127 : -127) : (int)below(255) - 127;
                values[first * padded + (k / 4 * n + t - first) * 4 + k % 4] = (int8_t)v;
                sums[t] += v;
            }
        }
        const size_t middle = below(ck_tiles(rows) + 1);
        ck_scalar.matmul(packed, columns, 0, ck_tiles(rows), values, sums, T, a, stride);
        table->matmul(packed, columns, 0, middle, values, sums, T, b, stride);
        table->matmul(packed, columns, middle, ck_tiles(rows), values, sums, T, b, stride);
        check(table->name, "matmul", T, a, b, T * stride * 4);
        free(packed), free(values), free(sums), free(a), free(b);
    }
}

/// The largest sums there are: every trit ±1 and every activation ±127.
static void wide(const ck_table *table) {
    // With 660,540 columns the plane of digit 3, left in place as 64 d, sums to more than 2^31.
    const size_t columns[] = {660520, 660540, 1 << 20, CK_MOST_COLUMNS};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        const size_t padded = ck_padded_columns(columns[i]), bytes = ck_packed_bytes(CK_TILE_ROWS, columns[i]);
        uint8_t *packed = room(bytes);
        for (int signs = 0; signs < 4; signs++) {
            const int trit = signs & 1 ? 1 : -1, value = signs & 2 ? 127 : -127;
            memset(packed, trit < 0 ? 0 : 242, bytes);
            for (size_t T = 1; T <= (columns[i] < 1 << 20 ? 9 : 1); T++) {
                int8_t *values = room(T * padded);
                int32_t sums[9], a[9 * CK_TILE_ROWS], b[9 * CK_TILE_ROWS];
                memset(values, value, T * padded);
                for (size_t t = 0; t < T; t++) {
                    sums[t] = value * (int32_t)padded;
                    for (size_t r = 0; r < CK_TILE_ROWS; r++) a[t * CK_TILE_ROWS + r] = trit * sums[t];
                }
                table->matmul(packed, padded, 0, 1, values, sums, T, b, CK_TILE_ROWS);
                check(table->name, "matmul of so many columns", columns[i], a, b, T * sizeof *a * CK_TILE_ROWS);
                free(values);
            }
        }
        free(packed);
    }
}

/// Room for one table's answers about rows of n.
typedef struct answers {
    int8_t *values;
    float *x, *y, inverse[3];
    int32_t sums[3];
} answers;

static void rows(const ck_table *table) {
    for (int round = 0; round < 120; round++) {
        const size_t n = round < 70 ? (size_t)round + 1 : 1 + below(round % 3 ? 500 : 7000), padded = ck_padded_columns(n);
        const size_t bytes = 3 * 8 * padded;
        float *x = room(n * 4), *w[3] = {room(n * 4), room(n * 4), room(n * 4)}, *scratch = room(n * 4);
        int32_t *yi = room(2 * n * 4), *yf = room(n * 4);
        uint16_t *half = room(n * 2);
        const float size = round % 4 ? 4 : round % 8 ? 1e-20f : 1e18f;
        for (size_t k = 0; k < n; k++) {
            x[k] = uniform() * size;
            for (int i = 0; i < 3; i++) w[i][k] = uniform();
            yi[k] = (int32_t)below(20001) - 10000, yi[n + k] = (int32_t)next(), yf[k] = (int32_t)next();
            half[k] = (uint16_t)next();
        }
        answers a[2];
        uint32_t picked[2][64];
        const size_t block = 1 + below(8), row = below(block);
        for (int i = 0; i < 2; i++) {
            a[i] = (answers){.values = room(bytes), .x = room(n * 4), .y = room(n * 4)};
            memcpy(a[i].x, x, n * 4);
        }
#define BOTH(...)                                      \
    for (int i = 0; i < 2; i++) {                      \
        const ck_table *t = i ? table : &ck_scalar;    \
        __VA_ARGS__                                    \
    }
#define SAME(what, field, bytes) check(table->name, what, n, a[0].field, a[1].field, bytes)
#define ROW(j) {a[i].values + (j) * 8 * padded, (uint32_t)block, (uint32_t)row, &a[i].inverse[j], &a[i].sums[j]}
#define QUANTISED(what, ...)                                       \
    BOTH(const ck_quantised_row out[3] = {ROW(0), ROW(1), ROW(2)}; (void)out; __VA_ARGS__) \
    SAME(what, values, bytes);                                     \
    SAME(what, inverse, sizeof a[0].inverse);                      \
    SAME(what, sums, sizeof a[0].sums)
        memset(a[0].inverse, 0, sizeof a[0].inverse), memset(a[1].inverse, 0, sizeof a[1].inverse);
        memset(a[0].sums, 0, sizeof a[0].sums), memset(a[1].sums, 0, sizeof a[1].sums);
        QUANTISED("norm_quantise", t->norm_quantise(x, n, round % 2 ? w[2] : NULL, 1e-6f, (const float *const *)w, 3, out, scratch););
        QUANTISED("gated_norm_quantise", t->gated_norm_quantise(yi, 1e-3f, n, w[0], 1e-6f, w[1], w[2], out, scratch););
        const float *given = round % 2 ? w[2] : NULL, *const *weights = round % 3 ? (const float *const *)w : NULL;
        QUANTISED("norm_quantise_even", t->norm_quantise_even(x, n, given, 1e-6f, weights, 1e-5f, weights ? 3 : 1, out, scratch););
        BOTH(t->relu2(yi, 1e-3f, yi + n, 1e-8f, n, a[i].y);)
        SAME("relu2", y, n * 4);
        BOTH(t->swiglu(yi, 1e-3f, yi + n, 1e-8f, n, a[i].y);)
        SAME("swiglu", y, n * 4);
        BOTH(t->recurrence(yi, 2e-3f, yf, 1e-8f, round % 2 ? w[0] : NULL, round % 3 ? a[i].x : x, a[i].x, a[i].y, n);)
        SAME("recurrence", x, n * 4);
        SAME("recurrence", y, n * 4);
        BOTH(t->add_scaled(a[i].x, yf, 1e-9f, n);)
        SAME("add_scaled", x, n * 4);
        BOTH(t->scale(a[i].x, yf, 1e-9f, n);)
        SAME("scale", x, n * 4);
        BOTH(t->norm(x, n, w[0], 1e-6f, a[i].x);)
        SAME("norm", x, n * 4);
        BOTH(t->widen_f16(half, n, a[i].x);)
        SAME("widen_f16", x, n * 4);
        BOTH(t->widen_bf16(half, n, a[i].x);)
        SAME("widen_bf16", x, n * 4);
        BOTH(t->exp_shifted(x, n, 1.5f, a[i].x);)
        SAME("exp_shifted", x, n * 4);
        BOTH(a[i].inverse[0] = t->sum_exp(x, n, 0.5f); a[i].sums[0] = (int32_t)t->argmax(x, n);)
        SAME("sum_exp", inverse, sizeof a[0].inverse);
        SAME("argmax", sums, sizeof a[0].sums);
        const float limits[CK_LIMITS] = {-0.5f, -1, -2, -4, -8, -16, -32, size};
        float above[2][CK_LIMITS];
        double mass[2], whole[2];
        BOTH(whole[i] = t->temper_above(x, n, 1.5f, 0.7f, a[i].x, limits, above[i]); mass[i] = t->mass_above(x, w[0], n, 0.25f);)
        SAME("temper_above", x, n * 4);
        check(table->name, "temper_above", n, &whole[0], &whole[1], sizeof whole[0]);
        check(table->name, "temper_above", n, above[0], above[1], sizeof above[0]);
        BOTH(t->masses_above(w[0], x, n, limits, above[i]);)
        check(table->name, "masses_above", n, above[0], above[1], sizeof above[0]);
        check(table->name, "mass_above", n, &mass[0], &mass[1], sizeof mass[0]);
        BOTH(t->temper(x, n, 1.5f, 0.7f, a[i].x);)
        SAME("temper", x, n * 4);
        BOTH(t->scale(a[i].x, yf, 1e-9f, n); t->drop_below(a[i].x, x, n, 0.25f);)
        SAME("drop_below", x, n * 4);
        BOTH(a[i].sums[0] = (int32_t)t->select(x, n, size * 0.1f, size * 0.9f, 1.5f, picked[i], a[i].x, 64);)
        SAME("select", sums, sizeof a[0].sums);
        check(table->name, "select", n, picked[0], picked[1], 4 * (size_t)(a[0].sums[0] < 64 ? a[0].sums[0] : 64));
        check(table->name, "select", n, a[0].x, a[1].x, 4 * (size_t)(a[0].sums[0] < 64 ? a[0].sums[0] : 64));
        uint64_t read[2];
        BOTH(read[i] = t->read_all((const uint8_t *)x, n * 4 / 64 * 64);)
        check(table->name, "read_all", n, &read[0], &read[1], 8);
        for (int i = 0; i < 2; i++) free(a[i].values), free(a[i].x), free(a[i].y);
        free(x), free(w[0]), free(w[1]), free(w[2]), free(scratch), free(yi), free(yf), free(half);
    }
}

static void rotations(const ck_table *table) {
    for (size_t d = 2; d <= 140; d += 2) {
        const size_t heads = 1 + below(5), bytes = heads * d * 4;
        int32_t *y = room(bytes);
        float *norm = room(d * 4), *c = room(d * 2), *s = room(d * 2), *a = room(bytes), *b = room(bytes);
        for (size_t k = 0; k < heads * d; k++) y[k] = (int32_t)next() >> 12;
        for (size_t k = 0; k < d; k++) norm[k] = uniform();
        for (size_t k = 0; k < d / 2; k++) c[k] = uniform();
        ck_rotation(c, d / 2, next() >> 12, c, s);
        ck_scalar.rotate(y, 1e-4f, heads, d, d % 4 ? norm : NULL, 1e-6f, c, s, a);
        table->rotate(y, 1e-4f, heads, d, d % 4 ? norm : NULL, 1e-6f, c, s, b);
        check(table->name, "rotate", d, a, b, bytes);
        free(y), free(norm), free(c), free(s), free(a), free(b);
    }
}

static void attention(const ck_table *table) {
    for (int round = 0; round < 300; round++) {
        const enum ck_encoding encoding = round < 150 ? CK_F32 : CK_BF16;
        const size_t heads = 1 + below(9), d = 2 * (1 + below(70)), count = round % 150 < 70 ? (size_t)round % 150 + 1 : 1 + below(600);
        const size_t pages = (count + CK_PAGE_TOKENS - 1) / CK_PAGE_TOKENS, page = 2 * CK_PAGE_TOKENS * d + 5, bytes = heads * d * 4;
        const size_t size = encoding == CK_BF16 ? 2 : 4;
        uint8_t *storage = room(pages * page * size);
        float *q = room(bytes), *key = room(d * 4);
        const void **starts = room(pages * sizeof *starts);
        memset(storage, 0xff, pages * page * size);  // NaN, after the last position
        for (size_t p = 0; p < pages; p++) starts[p] = storage + p * page * size;
        for (size_t j = 0; j < count; j++) {
            uint8_t *start = storage + (j / CK_PAGE_TOKENS * page + 2) * size;
            for (size_t e = 0; e < d; e++) key[e] = 2 * uniform();
            ck_store_key(encoding, start, key, d, j);
            for (size_t e = 0; e < d; e++) key[e] = uniform();
            ck_store_value(encoding, start + CK_PAGE_TOKENS * d * size, key, d, j);
        }
        for (size_t k = 0; k < heads * d; k++) q[k] = 2 * uniform();
        float *scores = room(heads * pages * CK_PAGE_TOKENS * 4), *a = room(bytes), *b = room(bytes);
        ck_scalar.attend(encoding, q, heads, d, starts, 2, 2 + CK_PAGE_TOKENS * d, count, 0.2f, scores, a);
        table->attend(encoding, q, heads, d, starts, 2, 2 + CK_PAGE_TOKENS * d, count, 0.2f, scores, b);
        check(table->name, encoding == CK_BF16 ? "attend bf16" : "attend", count, a, b, bytes);
        free(storage), free(q), free(key), free(starts), free(scores), free(a), free(b);
    }
}

static void dense(const ck_table *table) {
    for (int round = 0; round < 160; round++) {
        const enum ck_encoding encoding = (enum ck_encoding)(round % 4);
        const size_t n = round < 80 ? (size_t)round + 1 : 1 + below(3000), rows = 1 + below(7), T = round % 3 ? 1 + below(20) : 1;
        const size_t row = encoding == CK_F32 ? n * 4 : encoding == CK_Q6 ? ck_q6_row_bytes(n) : n * 2, stride = rows + below(3);
        uint8_t *matrix = room(rows * row);
        float *x = room(T * n * 4), *a = room(T * stride * 4), *b = room(T * stride * 4), *v = room(n * 4);
        for (size_t k = 0; k < T * n; k++) x[k] = uniform();
        for (size_t r = 0; r < rows; r++) {
            uint8_t *to = matrix + r * row;
            for (size_t k = 0; k < n; k++) v[k] = uniform();
            if (encoding == CK_F32) memcpy(to, v, row);
            if (encoding == CK_Q6) ck_q6_encode(v, n, to);
            for (size_t k = 0; row == n * 2 && k < row; k++) to[k] = (uint8_t)next() & (k % 2 ? 0xbb : 0xff);  // finite halves
        }
        const size_t middle = below(rows + 1);
        ck_scalar.dense(encoding, matrix, n, 0, rows, x, T, a, stride);
        table->dense(encoding, matrix, n, 0, middle, x, T, b, stride);
        table->dense(encoding, matrix, n, middle, rows, x, T, b, stride);
        check(table->name, "dense", n, a, b, T * stride * 4);
        free(matrix), free(x), free(a), free(b), free(v);
    }
}

int main(void) {
    printf("tables:");
    for (size_t i = 0; ck_runnable(i); i++) printf(" %s", ck_runnable(i)->name);
    printf("\n");
    wide(&ck_scalar);
    for (size_t i = 1; ck_runnable(i); i++) {
        wide(ck_runnable(i));
        products(ck_runnable(i));
        rows(ck_runnable(i));
        rotations(ck_runnable(i));
        attention(ck_runnable(i));
        dense(ck_runnable(i));
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed != 0 || passed == 0;
}
