// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <stddef.h>
#include <protobuf-c/protobuf-c.h>
// A bump allocator with a byte budget for protobuf-c: one hostile frame can
// neither allocate past `budget` nor cost a free() per field.
typedef struct mmf_arena mmf_arena;
mmf_arena *mmf_arena_new(size_t budget);
void mmf_arena_reset(mmf_arena *);
void mmf_arena_free(mmf_arena *);
ProtobufCAllocator *mmf_arena_allocator(mmf_arena *);
void *mmf_arena_alloc(mmf_arena *, size_t);
size_t mmf_arena_used(const mmf_arena *);
