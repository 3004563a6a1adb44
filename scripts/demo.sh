#!/usr/bin/env bash
# Sets everything up and goes the whole way on three real decoder layers: tune, promote, build,
# load without the compiler, verify, time. Arguments go to the demo: ./scripts/demo.sh --help
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

ensure_environment "compiler,plot"
say "tvm-conv3dt demo"
exec "$VENV/bin/tvm-conv3dt" demo "$@" </dev/null
