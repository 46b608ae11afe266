// SPDX-License-Identifier: Apache-2.0
//
// The tables that select.c may choose from, one per instruction set.
#pragma once
#include "CKernels.h"

#if defined(__x86_64__)
extern const ck_table ck_avx2, ck_avxvnni, ck_avx512vnni, ck_avx512vbmi, ck_avx512zen5, ck_avx512gfni, ck_avx512amx;
#elif defined(__aarch64__)
extern const ck_table ck_neon;
#endif
