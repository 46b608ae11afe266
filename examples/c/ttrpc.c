// SPDX-License-Identifier: Apache-2.0
#include "ttrpc.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "github.com/containerd/ttrpc/request.pb-c.h"

enum { REQUEST = 1, RESPONSE = 2, DATA = 3 };
enum { REMOTE_CLOSED = 1, NO_DATA = 4 };
enum { FRAME_LIMIT = 4 << 20 };

struct header {
    uint32_t length, stream; // big-endian
    uint8_t type, flags;
} __attribute__((packed));

const char *ttrpc_path(void) {
    const char *path = getenv("MMFREED_SOCKET");
    return path && *path ? path : "/run/mmfreed/mmfreed.sock";
}

int ttrpc_connect(const char *path, int type) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    int descriptor = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (descriptor >= 0 && connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) {
        int why = errno;
        close(descriptor);
        errno = why;
        return -1;
    }
    return descriptor;
}

// All of it, or -1 with errno.
static int send_all(int socket, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        ssize_t sent = send(socket, bytes, count, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return -1;
        bytes += sent;
        count -= (size_t)sent;
    }
    return 0;
}

static int receive_all(int socket, void *bytes, size_t count) {
    ssize_t got = count == 0 ? 0 : recv(socket, bytes, count, MSG_WAITALL);
    if (got >= 0 && (size_t)got < count) errno = ECONNRESET;
    return got >= 0 && (size_t)got == count ? 0 : -1;
}

int ttrpc_send(
    int socket, uint32_t stream, const char *service, const char *method, const ProtobufCMessage *request, bool is_streaming) {
    Ttrpc__Request envelope = TTRPC__REQUEST__INIT;
    size_t inner = protobuf_c_message_get_packed_size(request);
    uint8_t *payload = malloc(inner + 1);
    if (!payload) return -1;
    protobuf_c_message_pack(request, payload);
    envelope.service = (char *)service;
    envelope.method = (char *)method;
    envelope.payload = (ProtobufCBinaryData){inner, payload};
    size_t length = ttrpc__request__get_packed_size(&envelope);
    uint8_t *frame = malloc(sizeof(struct header) + length);
    int result = -1;
    if (frame && length <= FRAME_LIMIT) {
        struct header header = {htobe32((uint32_t)length), htobe32(stream), REQUEST, is_streaming ? REMOTE_CLOSED : 0};
        memcpy(frame, &header, sizeof header);
        ttrpc__request__pack(&envelope, frame + sizeof header);
        result = send_all(socket, frame, sizeof header + length);
    } else if (frame) {
        errno = EMSGSIZE;
    }
    free(frame);
    free(payload);
    return result;
}

// Takes a Response apart: its payload's message, or its status on standard error.
static enum ttrpc_kind respond(
    const uint8_t *data, size_t length, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret_message) {
    Ttrpc__Response *response = ttrpc__response__unpack(NULL, length, data);
    if (response && response->status && response->status->code != 0)
        fprintf(stderr, "code %d: %s\n", response->status->code, response->status->message);
    else if (response)
        *ret_message = protobuf_c_message_unpack(type, NULL, response->payload.len, response->payload.data);
    if (response) ttrpc__response__free_unpacked(response, NULL);
    return *ret_message ? TTRPC_MESSAGE : TTRPC_FAILED;
}

enum ttrpc_kind ttrpc_receive(int socket, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret_message) {
    struct header header;
    uint8_t *data = NULL;
    *ret_message = NULL;
    enum ttrpc_kind kind = TTRPC_FAILED;
    if (receive_all(socket, &header, sizeof header) != 0) goto broken;
    uint32_t length = be32toh(header.length);
    errno = EPROTO;
    if (length > FRAME_LIMIT || !(data = malloc(length + 1)) || receive_all(socket, data, length) != 0) goto broken;
    if (header.type == RESPONSE) {
        kind = respond(data, length, type, ret_message);
    } else if (header.type == DATA && header.flags & NO_DATA) {
        kind = TTRPC_END;
    } else if (header.type == DATA && (*ret_message = protobuf_c_message_unpack(type, NULL, length, data))) {
        kind = TTRPC_MESSAGE;
    } else {
        fprintf(stderr, "a frame of type %d that makes no sense\n", header.type);
    }
    free(data);
    return kind;
broken:
    fprintf(stderr, "the connection broke: %s\n", strerror(errno));
    free(data);
    return TTRPC_FAILED;
}
