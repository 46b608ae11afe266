// SPDX-License-Identifier: Apache-2.0
//
// How fast attention and dense rows are on one thread, beside a plain reader of the same bytes, taken in turns in one run.
// Build and run it with dev/bench-kernels --floats.
#define _GNU_SOURCE
#include "CKernels.h"
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

// The 2.4B shapes: 20 heads of 128, 5 of keys and values, 30 layers; a tied head of 128256 rows.
enum { D = 128, HEADS = 4, KEY_HEADS = 5, LAYERS = 30, POSITIONS = 4096, HIDDEN = 2560, WORDS = 128256, ROUNDS = 7, ROWS = 512 };
enum { PAGES = POSITIONS / CK_PAGE_TOKENS, PAIR = 2 * D * CK_PAGE_TOKENS, PAGE = LAYERS * KEY_HEADS * PAIR };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *t) {
    qsort(t, ROUNDS, sizeof *t, ascending);
    return t[ROUNDS / 2];
}

static volatile uint64_t sink;
static uint8_t *room;
static float q[HEADS * 8 * D], out[HEADS * 8 * D], scores[HEADS * 8 * POSITIONS], x[16 * HIDDEN], products[16 * WORDS];

/// One row of the newest position, in every layer and head: seconds.
static double decode(const ck_table *t, enum ck_encoding encoding, size_t heads) {
    const void *pages[PAGES];
    for (size_t p = 0; p < PAGES; p++) pages[p] = room + p * PAGE * (encoding == CK_BF16 ? 2 : 4);
    const double start = now();
    for (size_t i = 0; i < LAYERS * KEY_HEADS; i++) {
        t->attend(encoding, q, heads, D, pages, i * PAIR, i * PAIR + D * CK_PAGE_TOKENS, POSITIONS, 0.1f, scores, out);
    }
    return now() - start;
}

/// ROWS rows one after the other, of which the last sees `count` positions, in one layer and head: seconds.
static double prefill(const ck_table *t, enum ck_encoding encoding, size_t count) {
    const void *pages[PAGES];
    for (size_t p = 0; p < PAGES; p++) pages[p] = room + p * PAGE * (encoding == CK_BF16 ? 2 : 4);
    const double start = now();
    for (size_t r = 1; r <= ROWS; r++) {
        t->attend(encoding, q, HEADS, D, pages, 0, D * CK_PAGE_TOKENS, count - ROWS + r, 0.1f, scores, out);
    }
    return now() - start;
}

/// Pages of 16 positions as the engine has them, all layers and heads in each: allocated one by one, in no order of addresses.
static const void *apart[PAGES];
/// As many bytes in one piece.
static float *block;

static int allocate(void) {
    block = aligned_alloc(64, (size_t)PAGES * PAGE * sizeof(float));
    for (size_t p = 0; p < PAGES; p++) {
        void *page = aligned_alloc(64, PAGE * sizeof(float));
        if (!block || !page) return 0;
        memcpy(page, (float *)room + p * PAGE, PAGE * sizeof(float));
        apart[p * 37 % PAGES] = page;  // 37 and PAGES have no common factor
    }
    return 1;
}

/// One row of the newest position, in one layer and head: seconds.
static double attend(const ck_table *t, const void *const *pages, size_t keys, size_t values) {
    const double start = now();
    t->attend(CK_F32, q, HEADS, D, pages, keys, values, POSITIONS, 0.1f, scores, out);
    return now() - start;
}

/// Prints what pages that lie apart cost beside one block: of the same pages, in order; or, without pages, of each layer and head all
/// keys and then all values. Medians over all layers, heads and rounds, of ratios of two calls that follow each other.
static void paging(const ck_table *t, int pages) {
    enum { PAIRS = LAYERS * KEY_HEADS * ROUNDS, VALUES = D * CK_PAGE_TOKENS };
    static double ratios[PAIRS], times[PAIRS];
    memcpy(block, room, (size_t)PAGES * PAGE * sizeof(float));  // whatever numbers
    for (size_t n = 0; n < PAIRS; n++) {
        const size_t i = n % (LAYERS * KEY_HEADS);
        const void *parts[PAGES];
        for (size_t p = 0; p < PAGES; p++) parts[p] = block + (pages ? p * PAGE + i * PAIR : i * PAGES * PAIR + p * VALUES);
        double spent[2];
        for (size_t turn = 0; turn < 2; turn++) {
            const size_t who = (turn + n) % 2;
            spent[who] = who ? attend(t, parts, 0, pages ? VALUES : PAGES * VALUES) : attend(t, apart, i * PAIR, i * PAIR + VALUES);
        }
        ratios[n] = spent[0] / spent[1], times[n] = spent[1];
    }
    qsort(ratios, PAIRS, sizeof *ratios, ascending), qsort(times, PAIRS, sizeof *times, ascending);
    const double bytes = (double)POSITIONS * 2 * D * sizeof(float);
    const char *what = pages ? "pages in one block" : "one block without pages";
    printf("  attend f32, %-32s %5.1f GB/s, pages apart take %5.1f %% of its time\n", what, bytes / times[PAIRS / 2] / 1e9,
           100 * ratios[PAIRS / 2]);
}

static double dense(const ck_table *t, enum ck_encoding encoding, size_t n, size_t rows, size_t vectors) {
    const double start = now();
    t->dense(encoding, room, n, 0, rows, x, vectors, products, rows);
    return now() - start;
}

static double reading(const ck_table *t, size_t bytes) {
    const double start = now();
    sink += t->read_all(room, bytes / 64 * 64);
    return now() - start;
}

int main(int count, char **arguments) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(0, &set);
    sched_setaffinity(0, sizeof set, &set);
    const size_t cache = (size_t)PAGES * PAGE * sizeof(float), most = (size_t)WORDS * HIDDEN * 2;
    const size_t bytes = cache > most ? cache : most;
    room = mmap(NULL, bytes + (4 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return 1;
    room += (2 << 20) - (uintptr_t)room % (2 << 20);
    madvise(room, bytes, MADV_HUGEPAGE);
    // Floats, and bfloats, in ±1/2; as q6, codes under small scales.
    for (size_t i = 0; i < bytes / 4; i++) {
        const uint32_t r = (uint32_t)(i * 2654435761u >> 7), word = (r & 0x807f807f) | 0x3e003e00;
        memcpy(room + 4 * i, &word, 4);
    }
    for (size_t i = 0; i < sizeof q / sizeof *q; i++) q[i] = (float)(i % 13) * 0.01f;
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = (float)(i % 17) * 0.1f - 0.8f;
    if (!allocate()) return 1;
    const int only_paging = count > 1 && !strcmp(arguments[1], "paging");
    char list[200];
    snprintf(list, sizeof list, "%s", count > 1 && !only_paging ? arguments[1] : ck_best()->name);
    for (char *name = strtok(list, ","); name; name = strtok(NULL, ",")) {
        const ck_table *t = ck_named(name);
        if (!t) continue;
        printf("%s, one thread\n", name);
        // Ratios within a round, then their median: the machine's speed drifts between rounds.
        double speed[ROUNDS], ratio[ROUNDS];
#define BANDWIDTH(what, bytes, ...)                                                                             \
    for (int r = 0; r < ROUNDS; r++) {                                                                          \
        const double read = reading(t, bytes), spent = __VA_ARGS__;                                             \
        speed[r] = (double)(bytes) / spent / 1e9, ratio[r] = read / spent;                                      \
    }                                                                                                           \
    printf("  %-44s %5.1f GB/s, %3.0f %% of reading\n", what, median(speed), 100 * median(ratio));
#define ARITHMETIC(what, multiply_adds, ...)                                                                    \
    for (int r = 0; r < ROUNDS; r++) speed[r] = (double)(multiply_adds) / (__VA_ARGS__) / 1e9;                   \
    printf("  %-44s %5.1f G multiply-adds/s\n", what, median(speed));
        static const char *const encodings[] = {"f32", "f16", "bf16", "q6"};
        char what[60];
        for (int e = CK_F32; !only_paging && e <= CK_BF16; e += CK_BF16) {
            const enum ck_encoding encoding = (enum ck_encoding)e;
            const size_t stored = e == CK_BF16 ? cache / 2 : cache;
            static const size_t heads[] = {HEADS, 1, 2, 3, 8};
            for (int i = 0; i < 5; i++) {
                snprintf(what, sizeof what, "attend %s, 4096 positions, %zu head%s of 128", encodings[e], heads[i], heads[i] > 1 ? "s" : "");
                BANDWIDTH(what, stored, decode(t, encoding, heads[i]))
            }
            snprintf(what, sizeof what, "attend %s, 512 rows up to 512 positions", encodings[e]);
            ARITHMETIC(what, 2.0 * HEADS * D * ROWS * (ROWS + 1) / 2, prefill(t, encoding, ROWS))
            snprintf(what, sizeof what, "attend %s, 512 rows up to 4096 positions", encodings[e]);
            ARITHMETIC(what, 2.0 * HEADS * D * ROWS * (POSITIONS - ROWS / 2), prefill(t, encoding, POSITIONS))
        }
        for (int r = 0; r < ROUNDS; r++) ratio[r] = decode(t, CK_F32, HEADS) / decode(t, CK_BF16, HEADS);
        if (!only_paging) printf("  %-44s %5.2f times as fast\n", "attend bf16 beside f32, 4 heads of 128", median(ratio));
        paging(t, 1);
        paging(t, 0);
        if (only_paging) continue;
        for (int e = 0; e < 4; e++) {
            const size_t row = e == CK_F32 ? HIDDEN * 4 : e == CK_Q6 ? ck_q6_row_bytes(HIDDEN) : HIDDEN * 2;
            const size_t rows = bytes / row < WORDS ? bytes / row : WORDS;
            snprintf(what, sizeof what, "dense %s, n 2560", encodings[e]);
            BANDWIDTH(what, rows * row, dense(t, (enum ck_encoding)e, HIDDEN, rows, 1))
            for (size_t vectors = 2; vectors <= 16; vectors *= 2) {
                snprintf(what, sizeof what, "dense %s, %zu vectors", encodings[e], vectors);
                ARITHMETIC(what, (double)vectors * (double)(rows / 8) * HIDDEN, dense(t, (enum ck_encoding)e, HIDDEN, rows / 8, vectors))
            }
        }
    }
    return 0;
}
