// SPDX-License-Identifier: Apache-2.0
//
// The few Linux calls Glibc's module hides from Swift. Nothing here decides anything. Results are 0 or more, or -errno.
#pragma once
#include <stdint.h>
#include <sys/types.h>

#pragma clang assume_nonnull begin

/// Tells the processor that this is a spin loop.
static inline void cl_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/// CLOCK_MONOTONIC in nanoseconds.
uint64_t cl_monotonic_nanoseconds(void);

/// How many processors the calling thread may run on (the affinity mask); the first `capacity` of their numbers, ascending.
int cl_allowed_processors(int *_Nullable ret_numbers, int capacity);
/// Keeps the calling thread on one processor.
int cl_pin_thread(int processor);
/// Names the calling thread; 15 bytes are kept.
void cl_name_thread(const char *name);

/// A file without a name in `directory`, for writing (O_TMPFILE): nothing is left of it when its descriptor is closed. Returns
/// the descriptor.
int cl_open_nameless(const char *directory, mode_t mode);
/// Gives a file of `cl_open_nameless` a name that nothing has yet. Needs /proc.
int cl_give_name(int descriptor, const char *path);

/// Who is at the other end of a Unix socket, as the kernel recorded it at connect time: what SO_PEERCRED gives, the same as
/// `struct ucred`.
typedef struct cl_credentials {
    pid_t pid;
    uid_t uid;
    gid_t gid;
} cl_credentials;

#pragma clang assume_nonnull end
