// SPDX-License-Identifier: Apache-2.0
//
// Containment of SIGBUS. Reading a mapped page raises it when the file was cut short since, or when its disk or memory fails.
// The handler looks the address up in a table of guarded mappings and puts zero pages over the whole mapping it belongs to:
// the read goes on, and `cl_guard_is_damaged` tells that what was read counts for nothing. Over the whole of it, because one
// page at a time would be a signal and a mapping for each (max_map_count is 65,530), and of another size on huge pages.
//
// The handler needs no stack of its own: a bus error comes from a read of memory on a thread with its usual stack; a stack that
// overflows raises SIGSEGV. It calls sigaction, write, raise and the bare system call mmap, and takes no lock.
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef struct guard {
    atomic_int is_taken;
    /// Odd while `start` and `end` change. A reader that sees it change passes the guard over: it is not the one of its own
    /// address, for a mapping that is being read stays registered.
    atomic_uint version;
    atomic_uintptr_t start, end;
    atomic_int is_damaged;
} guard;

static guard guards[CL_GUARDS];
/// One past the highest guard ever taken.
static atomic_int guards_used;
static uintptr_t page_size = 4096;
static struct sigaction previous;

static void set_range(guard *g, uintptr_t start, uintptr_t end) {
    atomic_fetch_add(&g->version, 1);
    atomic_store(&g->start, start);
    atomic_store(&g->end, end);
    atomic_fetch_add(&g->version, 1);
}

int cl_guard_add(const void *start, size_t length) {
    for (int index = 0; index < CL_GUARDS; index++) {
        int is_taken = 0;
        if (!atomic_compare_exchange_strong(&guards[index].is_taken, &is_taken, 1)) continue;
        atomic_store(&guards[index].is_damaged, 0);
        uintptr_t end = ((uintptr_t)start + length + page_size - 1) / page_size * page_size;
        set_range(&guards[index], (uintptr_t)start, end);
        int used = atomic_load(&guards_used);
        while (used <= index && !atomic_compare_exchange_weak(&guards_used, &used, index + 1)) {}
        return index;
    }
    return -ENOSPC;
}

void cl_guard_remove(int index) {
    set_range(&guards[index], 0, 0);
    atomic_store(&guards[index].is_taken, 0);
}

int cl_guard_is_damaged(int index) { return atomic_load(&guards[index].is_damaged); }

/// Puts zero pages over the guarded mapping that holds `address`. Returns whether there is one and they are there.
static int blank(uintptr_t address) {
    int used = atomic_load(&guards_used);
    for (int index = 0; index < used; index++) {
        guard *g = &guards[index];
        unsigned version = atomic_load(&g->version);
        uintptr_t start = atomic_load(&g->start), end = atomic_load(&g->end);
        if (version % 2 || atomic_load(&g->version) != version) continue;
        if (address < start || address >= end) continue;
        // Before any zero can be read.
        atomic_store(&g->is_damaged, 1);
        long place = syscall(
            SYS_mmap, start, end - start, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0L);
        return place == (long)start;
    }
    return 0;
}

static char *append(char *at, const char *text) {
    while (*text) *at++ = *text++;
    return at;
}

static void report(uintptr_t address) {
    char line[256], *at = line;
    const char *name = program_invocation_short_name;
    for (int i = 0; i < 64 && name[i]; i++) *at++ = name[i];
    at = append(at, ": bus error (SIGBUS) at address 0x");
    for (int shift = sizeof address * 8 - 4; shift >= 0; shift -= 4) *at++ = "0123456789abcdef"[address >> shift & 15];
    at = append(at, ", which is in no mapped model file: the program ends\n");
    if (write(STDERR_FILENO, line, (size_t)(at - line)) < 0) return;
}

static void handle(int number, siginfo_t *info, void *context) {
    (void)context;
    int saved = errno;
    // Codes from 1 on are the kernel's; a misaligned access is no fault of the page.
    int is_fault = info->si_code > 0 && info->si_code != BUS_ADRALN;
    if (!is_fault || !blank((uintptr_t)info->si_addr)) {
        report((uintptr_t)info->si_addr);
        sigaction(number, &previous, NULL);
        // A fault comes again when this returns, a signal that was sent does not.
        if (info->si_code <= 0) raise(number);
    }
    errno = saved;
}

int cl_contain_faults(void) {
    static atomic_int is_done;
    if (atomic_exchange(&is_done, 1)) return 0;
    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO;
    sigfillset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &previous) == 0 ? 0 : -errno;
}
