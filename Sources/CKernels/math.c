// SPDX-License-Identifier: Apache-2.0
//
// exp and log of one float, for callers outside the tables.
#include "vector.h"

float ck_exp(float x) { return ck_exp_any(ck_all(x))[0]; }

/// log in double (its operations are exact IEEE ones, so every CPU agrees) and one rounding at the end: x = 2^e m with
/// m in [sqrt 1/2, sqrt 2), log m = 2 atanh((m - 1) / (m + 1)) as a series, whose next term is below 2^-45.
float ck_log(float x) {
    if (!(x > 0)) return x == 0 ? -__builtin_inff() : __builtin_nanf("");
    if (x == __builtin_inff()) return x;
    double d = x;
    uint64_t bits;
    __builtin_memcpy(&bits, &d, sizeof bits);
    // Adding the distance from sqrt 1/2 to 1 carries into the exponent exactly when m would be sqrt 2 or more.
    const uint64_t shifted = bits + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
    const int64_t e = (int64_t)(shifted >> 52) - 1023;
    bits -= (uint64_t)e << 52;
    __builtin_memcpy(&d, &bits, sizeof d);
    const double s = (d - 1) / (d + 1), z = s * s;
    double p = 1.0 / 17;
    for (int i = 15; i >= 1; i -= 2) p = p * z + 1.0 / i;
    return (float)((double)e * 0.693147180559945309 + 2 * s * p);
}
