// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "descriptor_set.h"
#include "github.com/containerd/ttrpc/request.pb-c.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"
#include "mmf_arena.h"
#include "mmfree/v1/control.pb-c.h"
#include "mmfree/v1/inference.pb-c.h"
#include "mmfree/v1/session.pb-c.h"
#include "mmfree/v1/share.pb-c.h"
