// SPDX-License-Identifier: Apache-2.0
#include "mmf_arena.h"
#include <stdint.h>
#include <stdlib.h>
enum { HEADER = 8, CHUNK = 4096 };
struct chunk { struct chunk *next; size_t cap, used; uint64_t mem[]; };
struct mmf_arena { ProtobufCAllocator pb; struct chunk *head; size_t used, budget; mmf_arena_failure why; };
// A header before every allocation holds its size: protobuf-c keeps no length of its strings, and they may hold NULs.
void *mmf_arena_alloc(mmf_arena *a, size_t asked) {
    if (asked > SIZE_MAX / 2 || ((asked + 7) & ~(size_t)7) + HEADER > a->budget - a->used) {
        a->why = MMF_ARENA_OVER_BUDGET;
        return NULL;
    }
    size_t n = ((asked + 7) & ~(size_t)7) + HEADER;
    struct chunk *c = a->head;
    if (!c || c->cap - c->used < n) {
        size_t cap = n > CHUNK - sizeof *c ? n : CHUNK - sizeof *c;
        c = malloc(sizeof *c + cap);
        if (!c) {
            a->why = MMF_ARENA_NO_MEMORY;
            return NULL;
        }
        c->cap = cap; c->used = 0; c->next = a->head; a->head = c;
    }
    uint64_t *p = c->mem + c->used / 8;
    c->used += n; a->used += n;
    *p = asked;
    return p + HEADER / 8;
}
static void *pb_alloc(void *d, size_t n) { return mmf_arena_alloc(d, n); }
static void pb_free(void *d, void *p) { (void)d; (void)p; }
mmf_arena *mmf_arena_new(size_t budget) {
    mmf_arena *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->budget = budget;
    a->pb.alloc = pb_alloc; a->pb.free = pb_free; a->pb.allocator_data = a;
    return a;
}
void mmf_arena_free(mmf_arena *a) {
    if (!a) return;
    for (struct chunk *c = a->head; c;) { struct chunk *n = c->next; free(c); c = n; }
    free(a);
}
mmf_arena_failure mmf_arena_why(const mmf_arena *a) { return a->why; }
size_t mmf_arena_used(const mmf_arena *a) { return a->used; }
ProtobufCAllocator *mmf_arena_allocator(mmf_arena *a) { return &a->pb; }
size_t mmf_arena_string_length(const char *s) {
    return s == protobuf_c_empty_string ? 0 : ((const uint64_t *)(const void *)s)[-1] - 1;
}
