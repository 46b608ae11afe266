// SPDX-License-Identifier: Apache-2.0
#include "mmf_arena.h"
#include <stdint.h>
#include <stdlib.h>
struct chunk { struct chunk *next; size_t cap, used; max_align_t mem[]; };
struct mmf_arena { ProtobufCAllocator pb; struct chunk *head; size_t used, budget; };
void *mmf_arena_alloc(mmf_arena *a, size_t n) {
    n = (n + 15) & ~(size_t)15;
    if (n == 0) n = 16;
    if (n > a->budget - a->used) return NULL;
    struct chunk *c = a->head;
    if (!c || c->cap - c->used < n) {
        size_t cap = n > 4096 - sizeof *c ? n : 4096 - sizeof *c;
        c = malloc(sizeof *c + cap);
        if (!c) return NULL;
        c->cap = cap; c->used = 0; c->next = a->head; a->head = c;
    }
    void *p = (char *)c->mem + c->used;
    c->used += n; a->used += n;
    return p;
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
void mmf_arena_reset(mmf_arena *a) {
    while (a->head && a->head->next) { struct chunk *n = a->head->next; free(a->head); a->head = n; }
    if (a->head) a->head->used = 0;
    a->used = 0;
}
void mmf_arena_free(mmf_arena *a) {
    if (!a) return;
    for (struct chunk *c = a->head; c;) { struct chunk *n = c->next; free(c); c = n; }
    free(a);
}
ProtobufCAllocator *mmf_arena_allocator(mmf_arena *a) { return &a->pb; }
size_t mmf_arena_used(const mmf_arena *a) { return a->used; }
