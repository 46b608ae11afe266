// SPDX-License-Identifier: Apache-2.0
//
// In the place of CKernels' select.c, beside its other files: every x86 table, whatever the CPU; the wider ones emulated.
#include "tables.h"

const ck_table *ck_runnable(size_t i) {
    static const ck_table *const all[] = {&ck_scalar,     &ck_avx2,       &ck_avxvnni,
                                          &ck_avx512vnni, &ck_avx512vbmi, &ck_avx512zen5, &ck_avx512gfni, &ck_avx512amx};
    return i < sizeof all / sizeof *all ? all[i] : NULL;
}
