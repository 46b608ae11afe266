// SPDX-License-Identifier: Apache-2.0
//
// Stands before the C library's allocator in the whole test program. Everything is passed on to it under the names it
// keeps for this purpose.
#include "CAllocations.h"

#include <errno.h>
#include <stddef.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static _Thread_local uint64_t count;

uint64_t ca_allocations(void) { return count; }

#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
// Sanitizers stand there themselves, and tell.
int __sanitizer_install_malloc_and_free_hooks(
    void (*)(const volatile void *, size_t), void (*)(const volatile void *));

static void allocated(const volatile void *memory, size_t size) {
    (void)memory, (void)size;
    count++;
}

static void freed(const volatile void *memory) { (void)memory; }

__attribute__((constructor)) static void begin(void) {
    __sanitizer_install_malloc_and_free_hooks(allocated, freed);
}
#else

void *malloc(size_t size) {
    count++;
    return __libc_malloc(size);
}

void *calloc(size_t number, size_t size) {
    count++;
    return __libc_calloc(number, size);
}

void *realloc(void *memory, size_t size) {
    count++;
    return __libc_realloc(memory, size);
}

void *memalign(size_t alignment, size_t size) {
    count++;
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **memory, size_t alignment, size_t size) {
    void *got = memalign(alignment, size);
    if (!got) return ENOMEM;
    *memory = got;
    return 0;
}
#endif
