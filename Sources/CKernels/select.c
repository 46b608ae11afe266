// SPDX-License-Identifier: Apache-2.0
//
// The only file that asks the CPU.
#include "tables.h"
#include <string.h>

const ck_table *ck_runnable(size_t i) {
    const ck_table *runnable[8];
    size_t count = 0;
    runnable[count++] = &ck_scalar;
    return i < count ? runnable[i] : NULL;
}

const ck_table *ck_best(void) {
    const ck_table *best = &ck_scalar;
    for (size_t i = 0; ck_runnable(i); i++) best = ck_runnable(i);
    return best;
}

const ck_table *ck_named(const char *name) {
    for (size_t i = 0; ck_runnable(i); i++) {
        if (!strcmp(ck_runnable(i)->name, name)) return ck_runnable(i);
    }
    return NULL;
}
