// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer's loop as a function: what a program with a main of its own calls.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// Never returns: the process exits, 0 when no input made `body` crash.
int LLVMFuzzerRunDriver(int *_Nonnull argc, char *_Nullable *_Nonnull *_Nonnull argv,
                        int (*_Nonnull body)(const uint8_t *_Nullable bytes, size_t count));
