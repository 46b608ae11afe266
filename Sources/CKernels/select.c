// SPDX-License-Identifier: Apache-2.0
//
// The only file that asks the CPU.
#include "tables.h"
#include <string.h>
#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
/// Whether Linux lends this process the tile registers: it keeps 8 KiB more of each thread that has used them.
static int ck_has_tiles(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };  // asm/prctl.h, asm/fpu/types.h
    return __builtin_cpu_supports("amx-int8") && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#endif

const ck_table *ck_runnable(size_t i) {
    const ck_table *runnable[9];
    size_t count = 0;
    runnable[count++] = &ck_scalar;
#if defined(__x86_64__)
    // These ask about the operating system too: whether it saves the wider registers.
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                     __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512vnni");
    if (avx2) runnable[count++] = &ck_avx2;
    if (avx2 && __builtin_cpu_supports("avxvnni")) runnable[count++] = &ck_avxvnni;
    if (avx512) runnable[count++] = &ck_avx512vnni;
    const int vbmi = avx512 && __builtin_cpu_supports("avx512vbmi"), gfni = vbmi && __builtin_cpu_supports("gfni");
    // Which of these is the faster is a matter of what a look-up in two registers costs: three operations on Intel's; and of
    // who brings a stream into the first-level cache.
    const int intel = __builtin_cpu_is("intel") != 0, zen5 = __builtin_cpu_is("znver5") != 0;
    if (gfni && !intel) runnable[count++] = &ck_avx512gfni;
    if (vbmi && !zen5) runnable[count++] = &ck_avx512zen5;
    if (vbmi) runnable[count++] = &ck_avx512vbmi;
    if (vbmi && zen5) runnable[count++] = &ck_avx512zen5;
    if (gfni && intel) runnable[count++] = &ck_avx512gfni;
    // The last: whoever asks for another table asks Linux for nothing.
    if (gfni && i == count && ck_has_tiles()) runnable[count++] = &ck_avx512amx;
#elif defined(__aarch64__)
    if (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) runnable[count++] = &ck_neon;
#endif
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
