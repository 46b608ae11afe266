// SPDX-License-Identifier: Apache-2.0
//
// Cosine and sine of rotation angles in double, whose operations are exact IEEE ones, so that every CPU and every C library
// give the same floats.
#include "vector.h"

// pi / 2 in three parts. The first two have 33 bits, so that a multiple below 2^20 of either is exact.
#define CK_RIGHT_ANGLE_1 0x1.921fb544p+0
#define CK_RIGHT_ANGLE_2 0x1.0b4611a6p-34
#define CK_RIGHT_ANGLE_3 0x1.3198a2e037073p-69
#define CK_RIGHT_ANGLES 0x1.45f306dc9c883p-1  // in one radian
#define CK_DOUBLE_ROUND 0x1.8p52              // adding it leaves an integer in the low bits

/// sin r - r and cos r - 1 over r and r^2 as Taylor series; for |r| <= pi / 4 the next terms are below 2^-63 and 2^-58.
static const double ck_sine_terms[] = {
    -1.0 / 6, 1.0 / 120, -1.0 / 5040, 1.0 / 362880, -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000,
    1.0 / 355687428096000};
static const double ck_cosine_terms[] = {
    -1.0 / 2, 1.0 / 24, -1.0 / 720, 1.0 / 40320, -1.0 / 3628800, 1.0 / 479001600, -1.0 / 87178291200,
    1.0 / 20922789888000};

static double ck_series(const double *terms, double z) {
    double p = terms[7];
    for (int i = 6; i >= 0; i--) p = p * z + terms[i];
    return p;
}

void ck_rotation(const float *frequencies, size_t half, size_t position, float *cosines, float *sines) {
    for (size_t i = 0; i < half; i++) {
        const float angle = (float)position * frequencies[i];
        if (!(__builtin_fabsf(angle) <= 0x1p20f)) {
            cosines[i] = sines[i] = __builtin_nanf("");
            continue;
        }
        // r = angle - n pi / 2: the first difference is exact; of the second, what rounding loses is kept.
        const double shifted = (double)angle * CK_RIGHT_ANGLES + CK_DOUBLE_ROUND, n = shifted - CK_DOUBLE_ROUND;
        const double first = (double)angle - n * CK_RIGHT_ANGLE_1, part = n * CK_RIGHT_ANGLE_2;
        const double second = first - part, back = second - first;
        const double lost = (first - (second - back)) - (part + back);
        const double r = second + (lost - n * CK_RIGHT_ANGLE_3), z = r * r;
        const double sine = r + r * z * ck_series(ck_sine_terms, z), cosine = 1 + z * ck_series(ck_cosine_terms, z);
        const int64_t quarter = (int64_t)n;
        const double c = quarter & 1 ? sine : cosine, s = quarter & 1 ? cosine : sine;
        cosines[i] = (float)((quarter + 1) & 2 ? -c : c);
        sines[i] = (float)(quarter & 2 ? -s : s);
    }
}
