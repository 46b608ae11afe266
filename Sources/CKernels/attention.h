// SPDX-License-Identifier: Apache-2.0
//
// Rotation by position, and attention over pages of sixteen positions. Part of rows.h: compiled once per table.
#pragma once
#include "rows.h"

#pragma clang assume_nonnull begin

/// Chains of fma side by side in attention, in vectors of sixteen: eight registers of AVX2. A table with wider registers
/// may define more.
#ifndef CK_CHAINS
#define CK_CHAINS 4
#endif

/// Heads that share each load of keys and values.
enum { CK_HEADS_TOGETHER = 4 };

static void ck_row_rotate(const int32_t *y, float scale, size_t heads, size_t d, const float *_Nullable norm, float eps,
                          const float *cosines, const float *sines, float *out) {
    const size_t half = d / 2;
    for (size_t h = 0; h < heads; h++, y += d, out += d) {
        float r = 1;
        if (norm) {
            ck_f32 s[4] = {{0}, {0}, {0}, {0}};
            CK_SWEEP(d, {
                const ck_f32 v = ck_load_int(y + k, left) * scale;
                s[j] = ck_fma(v, v, s[j]);
            });
            r = ck_inverse_rms(ck_join(s), d, eps);
        }
        for (size_t i = 0; i < half; i += CK_LANES) {
            const size_t left = half - i;
            ck_f32 a = ck_load_int(y + i, left) * scale, b = ck_load_int(y + half + i, left) * scale;
            if (norm) {
                a = a * r * ck_load(norm + i, left);
                b = b * r * ck_load(norm + half + i, left);
            }
            const ck_f32 c = ck_load(cosines + i, left), s = ck_load(sines + i, left);
            ck_store(out + i, left, a * c - b * s);
            ck_store(out + half + i, left, b * c + a * s);
        }
    }
}

// ---------------------------------------------------------------- attention

/// What every part of one call knows.
typedef struct ck_attention {
    const float *q;
    size_t d;
    const float *_Nonnull const *_Nonnull pages;
    size_t keys, values, count, stride;  ///< stride: floats of scores for each head
    float scale;
    float *scores, *out;
} ck_attention;

/// The page that comes `ahead` pages after `page`, or `page` where there is none.
CK_INLINE const float *ck_page_after(const ck_attention *a, size_t page, size_t ahead) {
    return a->pages[(page + ahead) * CK_PAGE_TOKENS < a->stride ? page + ahead : page];
}

// While a page is worked on, the next one is asked for, so that memory is at work too: every line, in memory's order. Lines in
// the order of the slices of values would cost a fifth of the bandwidth; asking further ahead gains one row 3 % of it, and
// costs many rows a tenth of their speed.

/// Scores of `heads` heads from `head` on, against `pages` pages from `page` on (both constants).
CK_INLINE void ck_score(const ck_attention *a, size_t head, size_t heads, size_t page, size_t pages) {
    const float *q = a->q + head * a->d, *k[CK_CHAINS];
    ck_f32 sum[CK_CHAINS][CK_HEADS_TOGETHER];
    const float *next = ck_page_after(a, page, pages) + a->keys;
#pragma clang loop unroll(full)
    for (size_t p = 0; p < pages; p++) {
        k[p] = a->pages[page + p] + a->keys;
#pragma clang loop unroll(full)
        for (size_t h = 0; h < heads; h++) sum[p][h] = ck_all(0);
    }
    for (size_t e = 0; e < a->d; e++) {
        __builtin_prefetch(next + e * CK_PAGE_TOKENS, 0, 3);
#pragma clang loop unroll(full)
        for (size_t p = 0; p < pages; p++) {
            const ck_f32 key = ck_load(k[p] + e * CK_PAGE_TOKENS, CK_LANES);
#pragma clang loop unroll(full)
            for (size_t h = 0; h < heads; h++) sum[p][h] = ck_fma(ck_all(q[h * a->d + e]), key, sum[p][h]);
        }
    }
#pragma clang loop unroll(full)
    for (size_t p = 0; p < pages; p++) {
#pragma clang loop unroll(full)
        for (size_t h = 0; h < heads; h++) {
            float *to = a->scores + (head + h) * a->stride + (page + p) * CK_PAGE_TOKENS;
            ck_store(to, CK_LANES, sum[p][h] * a->scale);
        }
    }
}

/// Pages [page, end), as many at a time as there is room for chains.
CK_INLINE void ck_score_pages(const ck_attention *a, size_t head, size_t heads, size_t page, size_t end) {
    const size_t together = CK_CHAINS / heads;
    if (together > 1) {
        for (; page + together <= end; page += together) ck_score(a, head, heads, page, together);
    }
    for (; page < end; page++) ck_score(a, head, heads, page, 1);
}

/// Adds a page's values, as its positions weigh, to the outputs of `heads` heads: `slices` vectors of each from element e on,
/// whole ones, or the `left` elements of a ragged end.
CK_INLINE void ck_gather(const ck_attention *a, size_t head, size_t heads, size_t page, size_t e, size_t slices, size_t left) {
    const size_t first = page * CK_PAGE_TOKENS, rest = a->count - first;
    const size_t tokens = rest < CK_PAGE_TOKENS ? rest : CK_PAGE_TOKENS;
    const float *v = a->pages[page] + a->values + e, *w = a->scores + head * a->stride + first;
    const float *next = ck_page_after(a, page, 1) + a->values + e * CK_PAGE_TOKENS;
    float *out = a->out + head * a->d + e;
    ck_f32 sum[CK_CHAINS][CK_HEADS_TOGETHER];
#define CK_EACH(...)                                                              \
    _Pragma("clang loop unroll(full)") for (size_t s = 0; s < slices; s++) {      \
        __VA_ARGS__                                                               \
    }
#define CK_HEADS(...) _Pragma("clang loop unroll(full)") for (size_t h = 0; h < heads; h++) { __VA_ARGS__ }
    CK_EACH(CK_HEADS(sum[s][h] = page ? ck_load(out + h * a->d + s * CK_LANES, left) : ck_all(0);))
    for (size_t j = 0; j < tokens; j++, v += a->d) {
        CK_EACH(
            __builtin_prefetch(next + (j * slices + s) * CK_LANES, 0, 3);
            const ck_f32 value = ck_load(v + s * CK_LANES, left);
            CK_HEADS(sum[s][h] = ck_fma(ck_all(w[h * a->stride + j]), value, sum[s][h]);)
        )
    }
    CK_EACH(CK_HEADS(ck_store(out + h * a->d + s * CK_LANES, left, sum[s][h]);))
#undef CK_EACH
#undef CK_HEADS
}

CK_INLINE void ck_gather_page(const ck_attention *a, size_t head, size_t heads, size_t page) {
    const size_t slices = CK_CHAINS / heads;
    size_t e = 0;
    if (slices > 1) {
        for (; e + slices * CK_LANES <= a->d; e += slices * CK_LANES) ck_gather(a, head, heads, page, e, slices, CK_LANES);
    }
    for (; e + CK_LANES <= a->d; e += CK_LANES) ck_gather(a, head, heads, page, e, 1, CK_LANES);
    if (e < a->d) ck_gather(a, head, heads, page, e, 1, a->d - e);
}

/// One head's scores, in whole pages, become exp(score - largest), and 0 from `count` on.
CK_INLINE void ck_weigh(float *z, size_t count) {
    const ck_i32 place = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const ck_f32 lowest = ck_all(-__builtin_inff());
    ck_f32 m[4] = {lowest, lowest, lowest, lowest};
    CK_SWEEP(count, {
        ck_f32 v = ck_load(z + k, CK_LANES);
        if (left < CK_LANES) v = ck_select(place < (int32_t)left, v, lowest);
        m[j] = ck_max(v, m[j]);
    });
    const float largest = ck_max_lanes(ck_max(ck_max(m[0], m[1]), ck_max(m[2], m[3])));
    CK_SWEEP(count, {
        ck_f32 w = ck_exp_any(ck_load(z + k, CK_LANES) - largest);
        if (left < CK_LANES) w = ck_select(place < (int32_t)left, w, ck_all(0));
        ck_store(z + k, CK_LANES, w);
    });
}

/// Calls what with a constant number of heads, four at a time and then the rest.
#define CK_BY_HEADS(heads, what, ...)                                                     \
    for (size_t ck_head = 0; ck_head < (heads); ck_head += CK_HEADS_TOGETHER) {           \
        switch ((heads) - ck_head) {                                                      \
            case 1: what(&a, ck_head, 1, __VA_ARGS__); break;                             \
            case 2: what(&a, ck_head, 2, __VA_ARGS__); break;                             \
            case 3: what(&a, ck_head, 3, __VA_ARGS__); break;                             \
            default: what(&a, ck_head, 4, __VA_ARGS__);                                   \
        }                                                                                 \
    }

static void ck_row_attend(const float *q, size_t heads, size_t d, const float *_Nonnull const *_Nonnull pages, size_t keys,
                          size_t values, size_t count, float scale, float *scores, float *out) {
    const size_t all = (count + CK_PAGE_TOKENS - 1) / CK_PAGE_TOKENS;
    const ck_attention a = {.q = q, .d = d, .pages = pages, .keys = keys, .values = values, .count = count,
                            .stride = all * CK_PAGE_TOKENS, .scale = scale, .scores = scores, .out = out};
    // A group of pages stays in the first-level cache while all heads pass.
    for (size_t page = 0; page < all; page += CK_CHAINS) {
        const size_t end = all - page < CK_CHAINS ? all : page + CK_CHAINS;
        CK_BY_HEADS(heads, ck_score_pages, page, end)
    }
    for (size_t h = 0; h < heads; h++) ck_weigh(scores + h * a.stride, count);
    for (size_t page = 0; page < all; page++) {
        CK_BY_HEADS(heads, ck_gather_page, page)
    }
    for (size_t h = 0; h < heads; h++, out += d) {
        ck_f32 s[4] = {{0}, {0}, {0}, {0}};
        CK_SWEEP(a.stride, { s[j] += ck_load(scores + h * a.stride + k, left); });
        const float sum = ck_join(s);
        CK_SWEEP(d, { ck_store(out + k, left, ck_load(out + k, left) / sum); });
    }
}

#pragma clang assume_nonnull end
