#pragma once
#include <libconfig.h>
