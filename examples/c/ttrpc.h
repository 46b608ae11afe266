// SPDX-License-Identifier: Apache-2.0
//
// Calls over ttrpc on a Unix socket, one at a time. docs/protocol.md (mmfree-protocol(7)) describes the frames.
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

// Connects to a socket of this type: SOCK_STREAM for calls, SOCK_SEQPACKET for descriptors. -1 with errno.
int ttrpc_connect(const char *path, int type);

// The path of the daemon's socket: $MMFREED_SOCKET, or the system's.
const char *ttrpc_path(void);

// Sends a request that is answered by one message (unary) or by several (streaming). `stream` is odd, and rises from call to
// call. 0, or -1 with errno.
int ttrpc_send(
    int socket, uint32_t stream, const char *service, const char *method, const ProtobufCMessage *request, bool is_streaming);

enum ttrpc_kind { TTRPC_MESSAGE, TTRPC_END, TTRPC_FAILED };

// Reads what comes next of the call under way: a message, of the type `type`, to be freed with protobuf_c_message_free_unpacked;
// its end; or a failure, which is told on standard error.
enum ttrpc_kind ttrpc_receive(int socket, const ProtobufCMessageDescriptor *type, ProtobufCMessage **ret_message);
