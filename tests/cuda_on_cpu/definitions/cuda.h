#pragma once
#include "block.h"
#include "vectors.h"
#include "scalars.h"
