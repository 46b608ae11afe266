// SPDX-License-Identifier: Apache-2.0
//
// What the register kernels of all instruction sets share.
#pragma once
#include "vector.h"

/// How far ahead of the products weights are asked for, in bytes, where they are read as one stream: into the second-level
/// cache early, so that a single thread has enough of memory under way, and from there into the first.
enum { CK_ASK_EARLY = 16 << 10, CK_ASK_AHEAD = 2 << 10 };

// Whether a stream is asked for a second time, into the first-level cache.
#ifndef CK_ASK_NEAR
#define CK_ASK_NEAR 1
#endif

/// Asks for weights to come. May point past the matrix: a prefetch never faults.
CK_INLINE void ck_ask_ahead(const uint8_t *_Nonnull w) {
    __builtin_prefetch(w + CK_ASK_EARLY, 0, 2);
    if (CK_ASK_NEAR) __builtin_prefetch(w + CK_ASK_AHEAD, 0, 3);
}
/// Asks for weights of a second stream, whose time is further off: into the second-level cache.
CK_INLINE void ck_ask(const uint8_t *_Nonnull w) { __builtin_prefetch(w, 0, 2); }

// A plane left in its place in the byte makes a sum that is a multiple of 9, 27 or 81, and an exact division by an odd
// number is a multiplication by its inverse modulo 2^32.
#define CK_INVERSE_9 ((int32_t)0x38e38e39u)
#define CK_INVERSE_27 ((int32_t)0x684bda13u)
#define CK_INVERSE_81 ((int32_t)0x781948b1u)
