// SPDX-License-Identifier: Apache-2.0
//
// Turns texts into vectors of length one, and tells how alike each is to the first:  embed TEXT...
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mmfree/v1/inference.pb-c.h"
#include "ttrpc.h"

static double product(const Mmfree__V1__Embedding *a, const Mmfree__V1__Embedding *b) {
    double sum = 0;
    for (size_t i = 0; i < a->n_values && i < b->n_values; i++) sum += (double)a->values[i] * b->values[i];
    return sum;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s TEXT...\n", argv[0]);
        return 64;
    }
    int daemon = ttrpc_connect(ttrpc_path(), SOCK_STREAM);
    if (daemon < 0) {
        perror(ttrpc_path());
        return 69;
    }
    size_t count = (size_t)argc - 1;
    Mmfree__V1__EmbedInput *inputs = calloc(count, sizeof *inputs), **pointers = calloc(count, sizeof *pointers);
    if (!inputs || !pointers) abort();
    for (size_t i = 0; i < count; i++) {
        mmfree__v1__embed_input__init(&inputs[i]);
        inputs[i].input_case = MMFREE__V1__EMBED_INPUT__INPUT_TEXT;
        inputs[i].text = (ProtobufCBinaryData){strlen(argv[i + 1]), (uint8_t *)argv[i + 1]};
        pointers[i] = &inputs[i];
    }
    Mmfree__V1__EmbedRequest request;
    mmfree__v1__embed_request__init(&request);
    request.n_input = count;
    request.input = pointers;
    request.pooling = MMFREE__V1__POOLING__POOLING_MEAN;
    request.normalize = true;

    // Unary: all vectors in one message, which is right for few; as a stream each has a message of its own.
    ProtobufCMessage *message;
    if (ttrpc_send(daemon, 1, "mmfree.v1.Inference", "Embed", &request.base, false) != 0) {
        perror("sending");
        return 74;
    }
    if (ttrpc_receive(daemon, &mmfree__v1__embed_response__descriptor, &message) != TTRPC_MESSAGE) return 1;
    const Mmfree__V1__EmbedResponse *answer = (Mmfree__V1__EmbedResponse *)message;
    for (size_t i = 0; i < answer->n_embeddings; i++) {
        const Mmfree__V1__Embedding *one = answer->embeddings[i];
        printf("input %u: %u dimensions, length %.4f, cosine to the first %.4f\n", one->index, one->dimensions,
            sqrt(product(one, one)), product(one, answer->embeddings[0]));
    }
    protobuf_c_message_free_unpacked(message, NULL);
    free(pointers);
    free(inputs);
    close(daemon);
    return 0;
}
