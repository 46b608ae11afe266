// SPDX-License-Identifier: Apache-2.0
//
// AVX-512 as avx512gfni.c, and AMX's int8 tiles for eight rows and more (Sapphire Rapids and later). Linux lends the tiles to a process
// that asks (select.c).
#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(                                                                                                        \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,gfni,amx-tile,amx-int8,avx2,fma,bmi,bmi2"))), \
    apply_to = function)

#define CK_CHAINS 8
#define CK_COMPRESSES
#include "rows.h"
#include "tables.h"
#include "gfni.h"
#define CK_WEIGHT(p) 1
#define CK_IN_PLACE_MOST CK_MOST_COLUMNS
#define CK_AHEAD 1
#define CK_STRIPS_FROM SIZE_MAX
#define CK_AMX_FROM 8

#include "avx512.h"
#include "amx.h"

const ck_table ck_avx512amx = {
    .name = "avx512amx", .matmul = ck_amx_product, .dot_peak = ck_amx_peak, CK_ROW_OPERATIONS};

#pragma clang attribute pop
#endif
