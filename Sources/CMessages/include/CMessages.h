// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "descriptor_set.h"
#include "health.pb-c.h"
#include "mmf_arena.h"
#include "mmfree.pb-c.h"
#include "status.pb-c.h"
#include "ttrpc.pb-c.h"
