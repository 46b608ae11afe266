// SPDX-License-Identifier: Apache-2.0
//
// Streams an answer:  generate PROMPT [MAX-TOKENS]
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mmfree/v1/inference.pb-c.h"
#include "ttrpc.h"

static void show(const Mmfree__V1__GenerateResponse *part) {
    if (part->started) fprintf(stderr, "%s, seed %llu\n", part->started->model, (unsigned long long)part->started->seed);
    fwrite(part->text.data, 1, part->text.len, stdout);
    fflush(stdout);
    if (part->finished)
        fprintf(stderr, "\n%u tokens in %.1f ms\n", part->finished->usage ? part->finished->usage->completion_tokens : 0,
            part->finished->timings ? (double)part->finished->timings->decode_ns / 1e6 : 0);
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s PROMPT [MAX-TOKENS]\n", argv[0]);
        return 64;
    }
    int daemon = ttrpc_connect(ttrpc_path(), SOCK_STREAM);
    if (daemon < 0) {
        perror(ttrpc_path());
        return 69;
    }
    Mmfree__V1__Sampling sampling;
    mmfree__v1__sampling__init(&sampling);
    sampling.temperature_set_case = MMFREE__V1__SAMPLING__TEMPERATURE_SET_TEMPERATURE;
    sampling.temperature = 0; // greedy: the likeliest token each time

    Mmfree__V1__GenerateRequest request;
    mmfree__v1__generate_request__init(&request);
    request.prompt_case = MMFREE__V1__GENERATE_REQUEST__PROMPT_TEXT;
    request.text = (ProtobufCBinaryData){strlen(argv[1]), (uint8_t *)argv[1]};
    request.max_tokens = argc == 3 ? (uint32_t)strtoul(argv[2], NULL, 10) : 24;
    request.sampling = &sampling;
    if (ttrpc_send(daemon, 1, "mmfree.v1.Inference", "Generate", &request.base, true) != 0) {
        perror("sending");
        return 74;
    }

    enum ttrpc_kind kind;
    ProtobufCMessage *message;
    while ((kind = ttrpc_receive(daemon, &mmfree__v1__generate_response__descriptor, &message)) == TTRPC_MESSAGE) {
        show((Mmfree__V1__GenerateResponse *)message);
        protobuf_c_message_free_unpacked(message, NULL);
    }
    close(daemon); // earlier than at the end of the answer, this would cancel it
    return kind == TTRPC_END ? 0 : 1;
}
