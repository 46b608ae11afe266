// SPDX-License-Identifier: Apache-2.0
//
// Counts what a thread takes from the heap, for tests that claim it takes nothing.
#pragma once
#include <stdint.h>

/// Calls of malloc and its kin by the calling thread so far.
uint64_t ca_allocations(void);
