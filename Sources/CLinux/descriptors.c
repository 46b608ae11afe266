// SPDX-License-Identifier: Apache-2.0
//
// Datagrams with descriptors (SCM_RIGHTS) on SOCK_SEQPACKET sockets.
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int cl_accept_datagrams(int listener, cl_credentials *ret_peer) {
    int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor < 0) return -errno;
    struct ucred peer;
    socklen_t length = sizeof peer;
    // With credentials beside each datagram an empty one can be told from the end.
    int yes = 1, buffer = 4096;
    if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
        setsockopt(descriptor, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) != 0 ||
        setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer) != 0) {
        int failure = -errno;
        close(descriptor);
        return failure;
    }
    *ret_peer = (cl_credentials){peer.pid, peer.uid, peer.gid};
    return descriptor;
}

static ssize_t receive(int socket, struct msghdr *message, int flags) {
    ssize_t count;
    do count = recvmsg(socket, message, flags);
    while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

int cl_receive_datagram(int socket, void *bytes, size_t capacity) {
    struct iovec part = {bytes, capacity};
    // No room for descriptors: the kernel closes those there are, and says that control data were cut.
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(struct ucred))];
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t count = receive(socket, &message, 0);
    if (count < 0) return (int)count;
    if (count == 0 && message.msg_controllen == 0) return -EPIPE;
    if (message.msg_flags & MSG_CTRUNC) return -EPROTO;
    if (message.msg_flags & MSG_TRUNC) return -EMSGSIZE;
    return (int)count;
}

int cl_send_descriptor(int socket, const void *bytes, size_t count, int descriptor) {
    struct iovec part = {(void *)bytes, count};
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof descriptor)];
    memset(control, 0, sizeof control);
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof descriptor);
        memcpy(CMSG_DATA(header), &descriptor, sizeof descriptor);
    }
    ssize_t sent;
    do sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : (int)sent;
}

int cl_receive_descriptor(int socket, void *bytes, size_t capacity, int *ret_descriptor) {
    struct iovec part = {bytes, capacity};
    // As many as a datagram can carry (SCM_MAX_FD is 253), so that none is cut off unseen.
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(256 * sizeof(int))];
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t count = receive(socket, &message, MSG_CMSG_CLOEXEC);
    if (count < 0) return (int)count;
    // CTRUNC here says that this process could not open them all.
    int failure = message.msg_flags & MSG_CTRUNC ? -EMFILE : message.msg_flags & MSG_TRUNC ? -EMSGSIZE : 0;
    int found = 0, first = -1;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t all = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t index = 0; index < all; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + index * sizeof descriptor, sizeof descriptor);
            if (found++ == 0) first = descriptor;
            else close(descriptor);
        }
    }
    if (failure == 0 && found > 1) failure = -EPROTO;
    if (failure != 0) {
        if (first >= 0) close(first);
        return failure;
    }
    *ret_descriptor = first;
    return (int)count;
}
