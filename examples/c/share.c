// SPDX-License-Identifier: Apache-2.0
//
// Maps a model that the daemon serves, its very pages, without permission to open the file:  share [MODEL]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "google/rpc/status.pb-c.h"
#include "mmfree/v1/share.pb-c.h"
#include "ttrpc.h"

// $MMFREED_SHARE_SOCKET, or share.sock beside the socket for calls.
static const char *share_path(void) {
    static char path[4096];
    const char *named = getenv("MMFREED_SHARE_SOCKET"), *calls = ttrpc_path(), *slash = strrchr(calls, '/');
    if (named && *named) return named;
    snprintf(path, sizeof path, "%.*sshare.sock", slash ? (int)(slash - calls) + 1 : 0, calls);
    return path;
}

// One datagram and its descriptor, -1 without one. The length, or -1.
static ssize_t receive(int socket, uint8_t *bytes, size_t capacity, int *ret_descriptor) {
    struct iovec part = {bytes, capacity};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_LEN(sizeof(int))}; // room for one
    ssize_t count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    *ret_descriptor = -1;
    struct cmsghdr *header = count < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
        memcpy(ret_descriptor, CMSG_DATA(header), sizeof(int));
    if (count >= 0 && message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) return -1;
    return count;
}

// How much of a mapping is in memory already, in bytes.
static size_t resident(void *mapping, size_t length) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (length + page - 1) / page, sum = 0;
    unsigned char *present = malloc(count);
    if (present && mincore(mapping, length, present) == 0)
        for (size_t i = 0; i < count; i++) sum += present[i] & 1;
    free(present);
    return sum * page;
}

int main(int argc, char **argv) {
    int daemon = ttrpc_connect(share_path(), SOCK_SEQPACKET);
    if (daemon < 0) {
        perror(share_path());
        return 69;
    }
    Mmfree__V1__ShareRequest request;
    mmfree__v1__share_request__init(&request);
    if (argc > 1) request.model = argv[1];
    uint8_t bytes[8192];
    size_t length = mmfree__v1__share_request__get_packed_size(&request);
    if (length > 4096) return 64;
    mmfree__v1__share_request__pack(&request, bytes);
    int descriptor = -1;
    if (send(daemon, bytes, length, MSG_NOSIGNAL) < 0) perror("sending");
    ssize_t count = receive(daemon, bytes, sizeof bytes, &descriptor);
    close(daemon);
    if (count < 0) {
        fprintf(stderr, "no answer from %s\n", share_path());
        return 74;
    }
    if (descriptor < 0) { // a status, and only then
        Google__Rpc__Status *status = google__rpc__status__unpack(NULL, (size_t)count, bytes);
        fprintf(stderr, "code %d: %s\n", status ? status->code : -1, status ? status->message : "no status");
        if (status) google__rpc__status__free_unpacked(status, NULL);
        return 1;
    }
    Mmfree__V1__ShareResponse *model = mmfree__v1__share_response__unpack(NULL, (size_t)count, bytes);
    struct stat file;
    if (!model || fstat(descriptor, &file) != 0 || (uint64_t)file.st_size < model->file_bytes || model->file_bytes < 24) {
        fprintf(stderr, "an answer that makes no sense\n");
        return 65;
    }
    const uint8_t *mapping = mmap(NULL, model->file_bytes, PROT_READ, MAP_SHARED, descriptor, 0);
    if (mapping == MAP_FAILED) {
        perror("mmap");
        return 74;
    }
    close(descriptor); // the mapping stays
    uint64_t tensors;
    memcpy(&tensors, mapping + 8, sizeof tensors);
    static const char *const kinds[] = {"unspecified", "plain", "sealed", "verity"};
    printf("%s: %llu bytes, %zu of them in memory, %s, %.4s with %llu tensors\n", model->name,
        (unsigned long long)model->file_bytes, resident((void *)mapping, model->file_bytes),
        (unsigned)model->protection < 4 ? kinds[model->protection] : "unknown", (const char *)mapping, (unsigned long long)tensors);
    munmap((void *)mapping, model->file_bytes);
    mmfree__v1__share_response__free_unpacked(model, NULL);
    return 0;
}
