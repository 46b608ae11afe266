// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/fs.h>
#include <linux/fsverity.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

uint64_t cl_monotonic_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int cl_allowed_processors(int *ret_numbers, int capacity) {
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0) return -errno;
    int found = 0;
    for (int processor = 0; processor < CPU_SETSIZE; processor++) {
        if (!CPU_ISSET(processor, &mask)) continue;
        if (found < capacity) ret_numbers[found] = processor;
        found++;
    }
    return found;
}

int cl_pin_thread(int processor) {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(processor, &mask);
    return sched_setaffinity(0, sizeof mask, &mask) == 0 ? 0 : -errno;
}

void cl_name_thread(const char *name) {
    char kept[16];
    strncpy(kept, name, sizeof kept - 1);
    kept[sizeof kept - 1] = 0;
    pthread_setname_np(pthread_self(), kept);
}

void cl_spare_memory(void) {
    mallopt(M_MMAP_THRESHOLD, 1 << 20);
    mallopt(M_ARENA_MAX, 2);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 2 << 20);
    pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
}

void cl_release_memory(void) { malloc_trim(0); }

int cl_open_nameless(const char *directory, mode_t mode) {
    int descriptor = open(directory, O_RDWR | O_TMPFILE | O_CLOEXEC, mode);
    return descriptor >= 0 ? descriptor : -errno;
}

int cl_give_name(int descriptor, const char *path) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    return linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0 ? 0 : -errno;
}

int cl_clone(int to, int from) { return ioctl(to, FICLONE, from) == 0 ? 0 : -errno; }

ssize_t cl_copy_range(int to, int from, off_t offset, size_t count) {
    off_t source = offset, destination = offset;
    ssize_t copied = copy_file_range(from, &source, to, &destination, count, 0);
    return copied >= 0 ? copied : -errno;
}

int cl_enable_verity(int descriptor) {
    struct fsverity_enable_arg argument;
    memset(&argument, 0, sizeof argument);
    argument.version = 1;
    argument.hash_algorithm = FS_VERITY_HASH_ALG_SHA256;
    argument.block_size = 4096;
    return ioctl(descriptor, FS_IOC_ENABLE_VERITY, &argument) == 0 ? 0 : -errno;
}
