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

enum {
    CK_HEADS_TOGETHER = 4,  ///< heads that share each load of keys and values
    CK_LINE = 64            ///< bytes
};

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
    const void *_Nonnull const *_Nonnull pages;
    size_t keys, values, count, stride;  ///< keys, values: bytes; stride: floats of scores for each head
    float scale;
    float *scores, *out;
} ck_attention;

// Keys and values are read by lines of 64 bytes: one vector of sixteen float32, or sixteen pairs of bfloat16, of which the low
// halves are one vector and the high ones another. Every function below takes as `per`, a constant, the vectors in a line: 1 or 2.

/// Vector i of a line.
CK_INLINE ck_f32 ck_of_line(size_t per, ck_words line, size_t i) {
    return (ck_f32)(per == 1 ? line : i ? line & 0xffff0000u : line << 16);
}

/// A line, or the first `left` of its sixteen words and zeros.
CK_INLINE ck_words ck_load_line(const char *p, size_t left) { return (ck_words)ck_load((const float *)(const void *)p, left); }

/// The page that comes `ahead` pages after `page`, or `page` where there is none.
CK_INLINE const char *ck_page_after(const ck_attention *a, size_t page, size_t ahead) {
    return (const char *)a->pages[(page + ahead) * CK_PAGE_TOKENS < a->stride ? page + ahead : page];
}

// While a page is worked on, the next one is asked for, so that memory is at work too: every line, in memory's order. Lines in
// the order of the slices of values would cost a fifth of the bandwidth; asking further ahead gains one row 3 % of it, and
// costs many rows a tenth of their speed.

/// Scores of `heads` heads from `head` on, against `pages` pages from `page` on (both constants).
CK_INLINE void ck_score(size_t per, const ck_attention *a, size_t head, size_t heads, size_t page, size_t pages) {
    const float *q = a->q + head * a->d;
    const char *k[CK_CHAINS];
    ck_f32 sum[CK_CHAINS][CK_HEADS_TOGETHER];
    const char *next = ck_page_after(a, page, pages) + a->keys;
#pragma clang loop unroll(full)
    for (size_t p = 0; p < pages; p++) {
        k[p] = (const char *)a->pages[page + p] + a->keys;
#pragma clang loop unroll(full)
        for (size_t h = 0; h < heads; h++) sum[p][h] = ck_all(0);
    }
    for (size_t e = 0; e < a->d; e += per) {
        const size_t at = e / per * CK_LINE;
        __builtin_prefetch(next + at, 0, 3);
#pragma clang loop unroll(full)
        for (size_t p = 0; p < pages; p++) {
            const ck_words line = ck_load_line(k[p] + at, CK_LANES);
#pragma clang loop unroll(full)
            for (size_t i = 0; i < per; i++) {
                const ck_f32 key = ck_of_line(per, line, i);
#pragma clang loop unroll(full)
                for (size_t h = 0; h < heads; h++) sum[p][h] = ck_fma(ck_all(q[h * a->d + e + i]), key, sum[p][h]);
            }
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
CK_INLINE void ck_score_pages(size_t per, const ck_attention *a, size_t head, size_t heads, size_t page, size_t end) {
    const size_t together = CK_CHAINS / heads;
    if (together > 1) {
        for (; page + together <= end; page += together) ck_score(per, a, head, heads, page, together);
    }
    for (; page < end; page++) ck_score(per, a, head, heads, page, 1);
}

/// Adds a page's values, as its positions weigh, to the outputs of `heads` heads: `lines` lines of each position's from element e
/// on, whole ones, or the `left` words of a ragged end. A line's two vectors of bfloat16 have the even and the odd elements; in
/// `out` they follow each other until ck_pair_outputs.
CK_INLINE void ck_gather(size_t per, const ck_attention *a, size_t head, size_t heads, size_t page, size_t e, size_t lines,
                         size_t left) {
    const size_t first = page * CK_PAGE_TOKENS, rest = a->count - first;
    const size_t tokens = rest < CK_PAGE_TOKENS ? rest : CK_PAGE_TOKENS, size = sizeof(float) / per;
    const char *v = (const char *)a->pages[page] + a->values + e * size;
    const float *w = a->scores + head * a->stride + first;
    const char *next = ck_page_after(a, page, 1) + a->values + e * size * CK_PAGE_TOKENS;
    float *out = a->out + head * a->d + e;
    ck_f32 sum[CK_CHAINS][2][CK_HEADS_TOGETHER];
#define CK_EACH(...)                                                              \
    _Pragma("clang loop unroll(full)") for (size_t s = 0; s < lines; s++) {       \
        __VA_ARGS__                                                               \
    }
#define CK_VECTORS(...) _Pragma("clang loop unroll(full)") for (size_t i = 0; i < per; i++) { __VA_ARGS__ }
#define CK_HEADS(...) _Pragma("clang loop unroll(full)") for (size_t h = 0; h < heads; h++) { __VA_ARGS__ }
#define CK_OUT (out + h * a->d + s * CK_LANES * per + i * left)
    CK_EACH(CK_VECTORS(CK_HEADS(sum[s][i][h] = page ? ck_load(CK_OUT, left) : ck_all(0);)))
    for (size_t j = 0; j < tokens; j++, v += a->d * size) {
        CK_EACH(
            __builtin_prefetch(next + (j * lines + s) * CK_LINE, 0, 3);
            const ck_words line = ck_load_line(v + s * CK_LINE, left);
            CK_VECTORS(
                const ck_f32 value = ck_of_line(per, line, i);
                CK_HEADS(sum[s][i][h] = ck_fma(ck_all(w[h * a->stride + j]), value, sum[s][i][h]);)
            )
        )
    }
    CK_EACH(CK_VECTORS(CK_HEADS(ck_store(CK_OUT, left, sum[s][i][h]);)))
#undef CK_EACH
#undef CK_VECTORS
#undef CK_HEADS
#undef CK_OUT
}

CK_INLINE void ck_gather_page(size_t per, const ck_attention *a, size_t head, size_t heads, size_t page) {
    const size_t lines = CK_CHAINS / heads / per, width = CK_LANES * per;
    size_t e = 0;
    if (lines > 1) {
        for (; e + lines * width <= a->d; e += lines * width) ck_gather(per, a, head, heads, page, e, lines, CK_LANES);
    }
    for (; e + width <= a->d; e += width) ck_gather(per, a, head, heads, page, e, 1, CK_LANES);
    if (e < a->d) ck_gather(per, a, head, heads, page, e, 1, (a->d - e) / per);
}

/// The vectors of even and of odd elements that ck_gather has left become the elements in their order.
CK_INLINE void ck_pair_outputs(float *out, size_t d) {
    for (size_t e = 0; e < d; e += 2 * CK_LANES) {
        float pairs[2 * CK_LANES];
        const size_t words = d - e < 2 * CK_LANES ? (d - e) / 2 : CK_LANES;
        for (size_t i = 0; i < words; i++) {
            pairs[2 * i] = out[e + i];
            pairs[2 * i + 1] = out[e + words + i];
        }
        __builtin_memcpy(out + e, pairs, words * 8);
    }
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

/// Calls what with a constant number of heads, `most` at a time and then the rest. most: 2 or 4.
#define CK_BY_HEADS(most, heads, what, ...)                                               \
    for (size_t ck_head = 0; ck_head < (heads); ck_head += (most)) {                      \
        switch ((heads) - ck_head < (most) ? (heads) - ck_head : (most)) {                \
            case 1: what(per, a, ck_head, 1, __VA_ARGS__); break;                         \
            case 2: what(per, a, ck_head, 2, __VA_ARGS__); break;                         \
            case 3: if ((most) > 2) what(per, a, ck_head, 3, __VA_ARGS__); break;         \
            default: if ((most) > 2) what(per, a, ck_head, 4, __VA_ARGS__);               \
        }                                                                                 \
    }

CK_INLINE void ck_attend(size_t per, const ck_attention *a, size_t heads) {
    const size_t all = a->stride / CK_PAGE_TOKENS;
    // A group of pages stays in the first-level cache while all heads pass.
    for (size_t page = 0; page < all; page += CK_CHAINS) {
        const size_t end = all - page < CK_CHAINS ? all : page + CK_CHAINS;
        CK_BY_HEADS(CK_HEADS_TOGETHER, heads, ck_score_pages, page, end)
    }
    for (size_t h = 0; h < heads; h++) ck_weigh(a->scores + h * a->stride, a->count);
    // Two vectors of each line are chains of their own.
    enum { CK_MOST = CK_CHAINS / 2 < CK_HEADS_TOGETHER ? CK_CHAINS / 2 : CK_HEADS_TOGETHER };
    for (size_t page = 0; page < all; page++) {
        if (per == 1) {
            CK_BY_HEADS(CK_HEADS_TOGETHER, heads, ck_gather_page, page)
        } else {
            CK_BY_HEADS((size_t)CK_MOST, heads, ck_gather_page, page)
        }
    }
    float *out = a->out;
    for (size_t h = 0; h < heads; h++, out += a->d) {
        ck_f32 s[4] = {{0}, {0}, {0}, {0}};
        CK_SWEEP(a->stride, { s[j] += ck_load(a->scores + h * a->stride + k, left); });
        const float sum = ck_join(s);
        if (per == 2) ck_pair_outputs(out, a->d);
        CK_SWEEP(a->d, { ck_store(out + k, left, ck_load(out + k, left) / sum); });
    }
}

static void ck_row_attend(enum ck_encoding encoding, const float *q, size_t heads, size_t d,
                          const void *_Nonnull const *_Nonnull pages, size_t keys, size_t values, size_t count, float scale,
                          float *scores, float *out) {
    const size_t size = encoding == CK_BF16 ? 2 : 4;
    const ck_attention a = {.q = q, .d = d, .pages = pages, .keys = keys * size, .values = values * size, .count = count,
                            .stride = (count + CK_PAGE_TOKENS - 1) / CK_PAGE_TOKENS * CK_PAGE_TOKENS, .scale = scale,
                            .scores = scores, .out = out};
    if (encoding == CK_BF16) {
        ck_attend(2, &a, heads);
    } else {
        ck_attend(1, &a, heads);
    }
}

#pragma clang assume_nonnull end
