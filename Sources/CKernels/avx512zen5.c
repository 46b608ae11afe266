// SPDX-License-Identifier: Apache-2.0
//
// avx512vbmi.c for Zen 5, which brings a stream into its first-level cache by itself: asking for it costs one thread a tenth
// of its speed at few rows.
#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(                                                                                 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,bmi,bmi2"))), \
    apply_to = function)

#define CK_CHAINS 8
#define CK_COMPRESSES
#define CK_ASK_NEAR 0
#include "rows.h"
#include "tables.h"
#include "vbmi.h"
#define CK_AHEAD 0
#define CK_STRIPS_FROM SIZE_MAX

#include "avx512.h"

const ck_table ck_avx512zen5 = {
    .name = "avx512zen5", .matmul = ck_product, .dot_peak = ck_dot_peak, CK_ROW_OPERATIONS};

#pragma clang attribute pop
#endif
