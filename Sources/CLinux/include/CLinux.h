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

/// For a process that is to stay small. From now on every block of 1 MiB and more is a mapping of its own, which the system has
/// back as soon as it is freed; there are at most two arenas; and threads get stacks of 2 MiB.
void cl_spare_memory(void);
/// Gives the system what is free in the heap. Takes some milliseconds for each 100 MiB.
void cl_release_memory(void);

/// A file without a name in `directory`, for writing (O_TMPFILE): nothing is left of it when its descriptor is closed. Returns
/// the descriptor.
int cl_open_nameless(const char *directory, mode_t mode);
/// Gives a file of `cl_open_nameless` a name that nothing has yet. Needs /proc.
int cl_give_name(int descriptor, const char *path);

/// Makes a file share the blocks of another, where the file system can (FICLONE).
int cl_clone(int to, int from);
/// Copies bytes from one file to the same place in another, inside the kernel (copy_file_range). Returns how many.
ssize_t cl_copy_range(int to, int from, off_t offset, size_t count);
/// Seals a file's contents by fs-verity: writes are refused from now on, and damaged pages fail to be read. Nobody may have it open
/// for writing. -EEXIST: it is sealed already; -EOPNOTSUPP, -ENOTTY: not on this file system.
int cl_enable_verity(int descriptor);

/// Bytes of an open file in the page cache (cachestat, else mincore of `mapping`, which maps all its `length` bytes). -EPERM: the
/// kernel does not tell.
int64_t cl_cached_bytes(int descriptor, void *mapping, size_t length);

/// Mappings that can be guarded at a time.
#define CL_GUARDS 8192
/// Guards a read-only mapping of a file that begins on a page: once `cl_contain_faults` was called, a page of it that cannot be
/// read turns all of it into zeros and marks it damaged, where otherwise SIGBUS would end the process. Returns the guard's
/// number, or -ENOSPC. Any thread.
int cl_guard_add(const void *start, size_t length);
/// Ends it; to be called before the mapping goes, when nobody reads it any more.
void cl_guard_remove(int guard);
/// Whether reading the mapping has failed since it is guarded. What was read before the answer is 0 is the file's.
int cl_guard_is_damaged(int guard);
/// Takes over SIGBUS, once for the process. Bus errors outside guarded mappings are told on standard error in one line and then
/// do what they did before.
int cl_contain_faults(void);

/// Who is at the other end of a Unix socket, as the kernel recorded it at connect time: what SO_PEERCRED gives, the same as
/// `struct ucred`.
typedef struct cl_credentials {
    pid_t pid;
    uid_t uid;
    gid_t gid;
} cl_credentials;

/// Takes a connection from a listening SOCK_SEQPACKET socket: non-blocking, close-on-exec, with room for some six datagrams
/// that its peer has not read. Returns its descriptor.
int cl_accept_datagrams(int listener, cl_credentials *ret_peer);
/// Receives one datagram on a socket of `cl_accept_datagrams`. Returns its bytes, 0 for an empty one; -EPIPE when the peer has
/// closed; -EMSGSIZE for one that is longer than `capacity`; -EPROTO for one with descriptors, which are not taken.
int cl_receive_datagram(int socket, void *bytes, size_t capacity);
/// Sends one datagram on a SOCK_SEQPACKET socket, with `descriptor` beside it unless that is -1; no SIGPIPE. Returns its bytes.
int cl_send_descriptor(int socket, const void *bytes, size_t count, int descriptor);
/// Receives one datagram, and the descriptor beside it (close-on-exec; -1 if there is none). Returns its bytes, 0 when the peer
/// has closed; -EMSGSIZE for one that is longer than `capacity`; -EPROTO for more than one descriptor or other control data, and
/// -EMFILE if there was no room for a descriptor. Where it fails, no descriptor stays open.
int cl_receive_descriptor(int socket, void *bytes, size_t capacity, int *ret_descriptor);

/// A file in memory without a name, for writing (memfd); its bytes count as shared memory of this process's control group.
/// Returns the descriptor, close-on-exec.
int cl_open_memory(const char *name);
/// Seals a file of `cl_open_memory` for good: neither its bytes nor its size nor its seals can be changed by anybody, and nobody but
/// root can open it for writing. Returns a descriptor for reading, close-on-exec; `descriptor` stays open.
int cl_seal_memory(int descriptor);
/// Gives the system the memory of a part of a file of `cl_open_memory`, which reads as zeros then (fallocate).
int cl_punch_hole(int descriptor, off_t offset, off_t length);
/// Whether a file has the seals of `cl_seal_memory`.
int cl_is_sealed(int descriptor);
/// Whether a file has fs-verity.
int cl_has_verity(int descriptor);
/// Lowers the calling thread's priority: nice 19, and the idle class for its reads of disks. Returns the first that failed.
int cl_lower_priority(void);

#pragma clang assume_nonnull end
