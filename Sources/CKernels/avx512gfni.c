// SPDX-License-Identifier: Apache-2.0
//
// AVX-512 with VNNI, VBMI and GFNI, for CPUs where a look-up in two registers (avx512vbmi.c) takes three operations and
// products use the same two units as everything else: Intel's from Ice Lake on. Nine operations take a vector apart (gfni.h),
// five of them the look-ups that give the planes.
#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(                                                                                      \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,gfni,avx2,fma,bmi,bmi2"))), \
    apply_to = function)

#define CK_CHAINS 8
#define CK_COMPRESSES
#include "rows.h"
#include "tables.h"
#include "gfni.h"
#define CK_WEIGHT(p) 1
#define CK_IN_PLACE_MOST CK_MOST_COLUMNS
#define CK_AHEAD 1
#define CK_STRIPS_FROM 17

#include "avx512.h"

const ck_table ck_avx512gfni = {
    .name = "avx512gfni", .matmul = ck_product, .dot_peak = ck_dot_peak, CK_ROW_OPERATIONS};

#pragma clang attribute pop
#endif
