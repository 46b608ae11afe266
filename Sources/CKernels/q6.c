// SPDX-License-Identifier: Apache-2.0
//
// q6: rows of an embedding in 6.5 bits a value. A block is 64 values in 52 bytes: 48 bytes of codes, then two scales
// (IEEE half, little endian), one for each half of the block. Four codes fill three bytes, the first in the low bits:
// c0 | c1 << 6 | c2 << 12 | c3 << 18. value = scale * (code - 32).
#include "CKernels.h"
#include <string.h>

enum { CK_Q6_BYTES = 52, CK_Q6_HALF = CK_Q6_BLOCK / 2 };

size_t ck_q6_row_bytes(size_t n) { return (n + CK_Q6_BLOCK - 1) / CK_Q6_BLOCK * CK_Q6_BYTES; }

static float ck_half_to_float(uint16_t h) {
    float f;
    ck_scalar.widen_f16(&h, 1, &f);
    return f;
}

/// Nearest half, ties to even, saturating at the largest finite one.
static uint16_t ck_float_to_half(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    bits &= 0x7fffffff;
    if (bits >= 0x477ff000) return sign | 0x7bff;
    if (bits < 0x38800000) {  // below 2^-14: subnormal; adding 1/2 leaves units of 2^-24 in the low bits
        memcpy(&f, &bits, 4);
        f += 0.5f;
        memcpy(&bits, &f, 4);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return (uint16_t)(sign | ((bits - 0x38000000) >> 13));
}

/// round(v / scale) as a code, half to even, saturating. inverse = 1 / scale.
static int ck_q6_code(float v, float inverse) {
    float c = v * inverse;
    c = c > 31 ? 31 : c < -32 ? -32 : c;
    c = (c + 12582912.0f) - 12582912.0f;  // 1.5 * 2^23: the sum has no room for a fraction
    return (int)c;
}

/// Squared error of 32 values under a scale.
static double ck_q6_error(const float *v, float scale) {
    const float inverse = scale != 0 ? 1 / scale : 0;
    double sum = 0;
    for (size_t i = 0; i < CK_Q6_HALF; i++) {
        const double e = (double)v[i] - (double)scale * ck_q6_code(v[i], inverse);
        sum += e * e;
    }
    return sum;
}

/// The scale of least squared error of those that put the value of largest magnitude at code -32.5, -32 ... -26 or
/// 26 ... 31.5, so that no value of that sign is off by more than half a code and none by more than one and a half. The
/// first of equals wins.
static uint16_t ck_q6_scale(const float *v) {
    float largest = 0;
    for (size_t i = 0; i < CK_Q6_HALF; i++) {
        if (__builtin_fabsf(v[i]) > __builtin_fabsf(largest)) largest = v[i];
    }
    uint16_t best = 0;
    double least = ck_q6_error(v, 0);
    for (int twice = -65; twice <= 63; twice = twice == -52 ? 52 : twice + 1) {
        const uint16_t half = ck_float_to_half(largest / ((float)twice * 0.5f));
        const double error = ck_q6_error(v, ck_half_to_float(half));
        if (error < least) least = error, best = half;
    }
    return best;
}

void ck_q6_encode(const float *in, size_t n, uint8_t *out) {
    for (size_t at = 0; at < n; at += CK_Q6_BLOCK, out += CK_Q6_BYTES) {
        float v[CK_Q6_BLOCK] = {0};
        for (size_t i = 0; i < CK_Q6_BLOCK && at + i < n; i++) {
            const float x = in[at + i];
            v[i] = x - x == 0 ? x : 0;  // infinity and NaN have no code
        }
        memset(out, 0, CK_Q6_BYTES);
        for (size_t h = 0; h < 2; h++) {
            const uint16_t half = ck_q6_scale(v + h * CK_Q6_HALF);
            const float scale = ck_half_to_float(half), inverse = scale != 0 ? 1 / scale : 0;
            out[48 + 2 * h] = (uint8_t)half;
            out[49 + 2 * h] = (uint8_t)(half >> 8);
            for (size_t i = h * CK_Q6_HALF; i < (h + 1) * CK_Q6_HALF; i++) {
                const uint32_t code = (uint32_t)(ck_q6_code(v[i], inverse) + 32) << (i % 4 * 6);
                uint8_t *p = out + i / 4 * 3;
                p[0] = (uint8_t)(p[0] | code);
                p[1] = (uint8_t)(p[1] | code >> 8);
                p[2] = (uint8_t)(p[2] | code >> 16);
            }
        }
    }
}

void ck_q6_decode(const uint8_t *in, size_t n, float *out) {
    for (size_t at = 0; at < n; at += CK_Q6_BLOCK, in += CK_Q6_BYTES) {
        float scale[2];
        for (size_t h = 0; h < 2; h++) {
            scale[h] = ck_half_to_float((uint16_t)(in[48 + 2 * h] | in[49 + 2 * h] << 8));
        }
        for (size_t i = 0; i < CK_Q6_BLOCK && at + i < n; i++) {
            const uint8_t *p = in + i / 4 * 3;
            const uint32_t four = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
            out[at + i] = scale[i / CK_Q6_HALF] * (float)((int)(four >> (i % 4 * 6) & 63) - 32);
        }
    }
}
