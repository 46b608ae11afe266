// SPDX-License-Identifier: Apache-2.0
//
// What keeps a file from changing: seals and fs-verity; and a priority for reading all of it.
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// Since Linux 6.3.
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static const int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

int cl_open_memory(const char *name) {
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int descriptor = memfd_create(name, flags | MFD_NOEXEC_SEAL);
    if (descriptor < 0 && errno == EINVAL) descriptor = memfd_create(name, flags);
    return descriptor >= 0 ? descriptor : -errno;
}

int cl_punch_hole(int descriptor, off_t offset, off_t length) {
    return fallocate(descriptor, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, offset, length) == 0 ? 0 : -errno;
}

int cl_seal_memory(int descriptor) {
    if (fchmod(descriptor, 0444) != 0 || fcntl(descriptor, F_ADD_SEALS, seals) != 0) return -errno;
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    int reading = open(path, O_RDONLY | O_CLOEXEC);
    return reading >= 0 ? reading : -errno;
}

int cl_is_sealed(int descriptor) {
    int found = fcntl(descriptor, F_GET_SEALS);
    return found >= 0 && (found & seals) == seals;
}

int cl_has_verity(int descriptor) {
    struct statx status;
    return statx(descriptor, "", AT_EMPTY_PATH, 0, &status) == 0 && (status.stx_attributes & STATX_ATTR_VERITY) != 0;
}

int cl_lower_priority(void) {
    // 0 is the calling thread. IOPRIO_WHO_PROCESS is 1; IOPRIO_CLASS_IDLE is 3, in the highest three of 16 bits.
    int failure = syscall(SYS_ioprio_set, 1, 0, 3 << 13) == 0 ? 0 : -errno;
    if (setpriority(PRIO_PROCESS, 0, 19) != 0 && failure == 0) failure = -errno;
    return failure;
}
