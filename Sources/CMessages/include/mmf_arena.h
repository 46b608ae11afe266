// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
/// Memory for one message: handed out until `budget` bytes are used, freed all at once.
typedef struct mmf_arena mmf_arena;
typedef enum { MMF_ARENA_WHOLE, MMF_ARENA_OVER_BUDGET, MMF_ARENA_NO_MEMORY } mmf_arena_failure;
/// NULL: out of memory.
mmf_arena *mmf_arena_new(size_t budget);
void mmf_arena_free(mmf_arena *);
/// Aligned to eight bytes. NULL: `mmf_arena_why` tells the reason.
void *mmf_arena_alloc(mmf_arena *, size_t);
mmf_arena_failure mmf_arena_why(const mmf_arena *);
/// Bytes handed out so far, each allocation's header of eight bytes included.
size_t mmf_arena_used(const mmf_arena *);
ProtobufCAllocator *mmf_arena_allocator(mmf_arena *);
/// The length of a string that protobuf-c unpacked into an arena, or its default; NULs inside it are counted.
size_t mmf_arena_string_length(const char *);
