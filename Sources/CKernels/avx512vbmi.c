// SPDX-License-Identifier: Apache-2.0
//
// AVX-512 with VNNI and VBMI (Ice Lake, Zen 4 and later): b mod 81 goes through one table of 81 bytes, which answers
// with four digits in two bits each.
#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(                                                                                 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx2,fma,bmi,bmi2"))), \
    apply_to = function)

#define CK_CHAINS 8
#define CK_COMPRESSES
#include "rows.h"
#include "tables.h"
#include "vbmi.h"
#define CK_AHEAD 0
#define CK_STRIPS_FROM SIZE_MAX

#include "avx512.h"

const ck_table ck_avx512vbmi = {
    .name = "avx512vbmi", .matmul = ck_product, .dot_peak = ck_dot_peak, CK_ROW_OPERATIONS};

#pragma clang attribute pop
#endif
