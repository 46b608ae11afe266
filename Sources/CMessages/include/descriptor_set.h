// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stddef.h>

/// A serialized google.protobuf.FileDescriptorSet of everything in proto/.
extern const unsigned char mmf_descriptor_set[];
extern const size_t mmf_descriptor_set_size;
/// Its first byte.
static inline const unsigned char *_Nonnull mmf_descriptor_set_bytes(void) { return mmf_descriptor_set; }
