// SPDX-License-Identifier: Apache-2.0
//
// How fast the tables are, as ratios: products beside a plain reader of the same bytes and beside the bare int8 dot
// product, taken in turns in one run, since the memory bandwidth of a shared machine drifts. Build and run it with
// dev/bench-kernels.
#define _GNU_SOURCE
#include "CKernels.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

// The 2.7B shapes: per layer i, f, g as one; o; gate and up; down; then the head.
enum { HIDDEN = 2560, INNER = 6912, LAYERS = 32, WORDS = 32000, ROUNDS = 9, DOTS = 200000000 };
#define LAYER_WEIGHTS (4.0 * HIDDEN * HIDDEN + 3.0 * HIDDEN * INNER)

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

// ---------------------------------------------------------------- two threads, meeting at every region's end

typedef struct pool {
    _Alignas(128) atomic_uint generation;
    _Alignas(128) atomic_uint done;
    int threads, quit;
    void (*work)(void *, int, int);
    void *context;
    pthread_t thread;
} pool;

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void *second(void *v) {
    pool *p = v;
    pin(1);
    for (unsigned g = 1;; g++) {
        while (atomic_load_explicit(&p->generation, memory_order_acquire) != g) __asm__ volatile("" ::: "memory");
        if (p->quit) return NULL;
        p->work(p->context, 1, 2);
        atomic_fetch_add_explicit(&p->done, 1, memory_order_release);
    }
}

static void run(pool *p, void (*work)(void *, int, int), void *context) {
    if (p->threads == 1) {
        work(context, 0, 1);
        return;
    }
    p->work = work, p->context = context;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    work(context, 0, 2);
    while (atomic_load_explicit(&p->done, memory_order_acquire) != 1) __asm__ volatile("" ::: "memory");
}

// ---------------------------------------------------------------- what is timed

typedef struct region {
    const ck_table *table;
    const uint8_t *packed;
    size_t rows, columns, T;
    const int8_t *values;
    const int32_t *sums;
    int32_t *y;
} region;

static void multiply(void *v, int id, int n) {
    const region *r = v;
    const size_t tiles = ck_tiles(r->rows);
    r->table->matmul(r->packed, r->columns, tiles * (size_t)id / (size_t)n, tiles * (size_t)(id + 1) / (size_t)n, r->values,
                     r->sums, r->T, r->y, tiles * 16);
}

static volatile uint64_t sink;
static void read_part(void *v, int id, int n) {
    const region *r = v;
    const size_t part = r->rows / (size_t)n / 64 * 64;
    sink += r->table->read_all(r->packed + part * (size_t)id, part);
}
static void dot_part(void *v, int id, int n) {
    (void)id, (void)n;
    sink += ((const region *)v)->table->dot_peak(DOTS);
}

static const uint8_t *packed;
static size_t packed_bytes;

/// One pass over all the model's products with T rows; seconds.
static double pass(pool *p, const ck_table *table, size_t T, const int8_t *values, const int32_t *sums, int32_t *y, int layers) {
    const double start = now();
    const uint8_t *w = packed;
    static const size_t shape[4][2] = {{3 * HIDDEN, HIDDEN}, {HIDDEN, HIDDEN}, {2 * INNER, HIDDEN}, {HIDDEN, INNER}};
    for (int l = 0; l < layers; l++) {
        for (int i = 0; i < 4; i++) {
            region r = {table, w, shape[i][0], shape[i][1], T, values, sums, y};
            run(p, multiply, &r);
            w += ck_packed_bytes(r.rows, r.columns);
        }
    }
    if (layers == LAYERS) {
        region r = {table, w, WORDS, HIDDEN, T < 16 ? T : 1, values, sums, y};
        run(p, multiply, &r);
    }
    return now() - start;
}

static void row_operations(const ck_table *t) {
    enum { D = 1024, I = 2816, N = 2000 };
    static float x[D], w[I], gate[I], scratch[I], state[D], h[D], h2[I];
    static int32_t y[2 * I];
    static int8_t q[3][I + 20];
    for (int i = 0; i < I; i++) w[i] = 1, gate[i] = (float)i / I;
    for (int i = 0; i < D; i++) x[i] = (float)(i % 17) - 8, state[i] = 0.1f, h[i] = 1;
    for (int i = 0; i < 2 * I; i++) y[i] = i % 1001 - 500;
    float inverse;
    int32_t sum;
    const ck_quantised_row out[3] = {{q[0], 1, 0, &inverse, &sum}, {q[1], 1, 0, &inverse, &sum}, {q[2], 1, 0, &inverse, &sum}};
    const float *weight[3] = {w, w, w};
    double total = 0;
#define TIME(what, ...)                                                   \
    do {                                                                  \
        double best = 1;                                                  \
        for (int r = 0; r < 5; r++) {                                     \
            const double start = now();                                   \
            for (int i = 0; i < N; i++) { __VA_ARGS__; }                  \
            const double spent = (now() - start) / N;                     \
            best = spent < best ? spent : best;                           \
        }                                                                 \
        printf("  %s %.2f", what, best * 1e6);                            \
        total += best;                                                    \
    } while (0)
    printf("%-11s one layer of 370M, microseconds:", t->name);
    TIME("norm_quantise x3", t->norm_quantise(x, D, w, 1e-6f, weight, 3, out, scratch));
    TIME("recurrence", t->recurrence(y, 1e-3f, y + 7, 1e-3f, gate, state, state, gate, D));
    TIME("gated", t->gated_norm_quantise(y, 1e-3f, D, w, 1e-6f, gate, w, out, scratch));
    TIME("add", t->add_scaled(h, y, 1e-9f, D); t->add_scaled(h, y, -1e-9f, D));
    TIME("norm_quantise", t->norm_quantise(x, D, w, 1e-6f, weight, 1, out, scratch));
    TIME("swiglu", t->swiglu(y, 1e-2f, y + I, 1e-2f, I, h2); t->norm_quantise(h2, I, NULL, 0, weight, 1, out, scratch));
    printf("  total %.2f\n", total * 1e6);
}

int main(int count, char **arguments) {
    const char *names = count > 1 ? arguments[1] : ck_best()->name;
    const int only = count > 2 ? atoi(arguments[2]) : 0;  // threads
    packed_bytes = LAYERS * (ck_packed_bytes(4 * HIDDEN, HIDDEN) + ck_packed_bytes(2 * INNER, HIDDEN) +
                             ck_packed_bytes(HIDDEN, INNER)) + ck_packed_bytes(WORDS, HIDDEN);
    uint8_t *room = mmap(NULL, packed_bytes + (4 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED) return 1;
    room += (2 << 20) - (uintptr_t)room % (2 << 20);
    madvise(room, packed_bytes, MADV_HUGEPAGE);
    for (size_t i = 0; i < packed_bytes; i++) room[i] = (uint8_t)(i * 2654435761u >> 13) % 243;
    packed = room;
    int8_t *values = aligned_alloc(64, 512 * (INNER + 64));
    for (size_t i = 0; i < 512 * (INNER + 64); i++) values[i] = (int8_t)((int)(i * 2654435761u >> 11 & 255) - 128 | 1);
    int32_t *sums = calloc(512, 4), *y = aligned_alloc(4096, 512ul * WORDS * 4);
    memset(y, 0, 512ul * WORDS * 4);
    pin(0);
    static const size_t cases[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 128, 512};
    enum { CASES = sizeof cases / sizeof *cases };
    for (int threads = only ? only : 1; threads <= (only ? only : 2); threads++) {
        pool *p = aligned_alloc(128, sizeof *p);
        memset(p, 0, sizeof *p);
        p->threads = threads;
        if (threads == 2) pthread_create(&p->thread, NULL, second, p);
        char list[200];
        snprintf(list, sizeof list, "%s", names);
        for (char *name = strtok(list, ","); name; name = strtok(NULL, ",")) {
            const ck_table *table = ck_named(name);
            if (!table) continue;
            if (threads == 1) row_operations(table);
            // Ratios within a round, then their median: the machine's speed drifts between rounds.
            double read[ROUNDS], dot[ROUNDS], speed[CASES][ROUNDS], of_read[CASES][ROUNDS], of_dot[CASES][ROUNDS];
            for (int r = 0; r < ROUNDS; r++) {
                const region whole = {.table = table, .packed = packed, .rows = packed_bytes};
                double start = now();
                run(p, dot_part, (void *)&whole);
                dot[r] = (double)DOTS * threads / (now() - start) / 1e9;
                start = now();
                run(p, read_part, (void *)&whole);
                read[r] = (double)packed_bytes / (now() - start) / 1e9;
                for (int c = 0; c < CASES; c++) {
                    const int layers = cases[c] > 128 ? 1 : cases[c] > 16 ? 4 : cases[c] > 4 ? 8 : LAYERS;
                    const double done = layers * LAYER_WEIGHTS + (layers == LAYERS ? (double)WORDS * HIDDEN : 0);
                    const double spent = pass(p, table, cases[c], values, sums, y, layers);
                    speed[c][r] = done * (double)cases[c] / spent / 1e9;
                    of_dot[c][r] = speed[c][r] / dot[r];
                    of_read[c][r] = done / 5 / spent / 1e9 / read[r];
                }
            }
            printf("%-11s threads %d: read %.1f GB/s, dot product %.0f G/s\n", name, threads, median(read), median(dot));
            for (int c = 0; c < CASES; c++) {
                const double g = median(speed[c]);
                printf("  T %3zu: %6.1f G/s, %3.0f %% of the dot product, %3.0f %% of reading, %7.1f rows/s\n", cases[c], g,
                       100 * median(of_dot[c]), 100 * median(of_read[c]),
                       g * 1e9 / (LAYERS * LAYER_WEIGHTS + (double)WORDS * HIDDEN));
            }
        }
        if (threads == 2) {
            p->quit = 1;
            atomic_fetch_add(&p->generation, 1);
            pthread_join(p->thread, NULL);
        }
        free(p);
    }
    return 0;
}
