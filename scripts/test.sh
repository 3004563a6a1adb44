#!/usr/bin/env bash
# Sets everything up and runs every check: lint, format, types, tests.
# Arguments go to pytest: ./scripts/test.sh -k packaging
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# TensorFlow, the first of the oracles, is not to be had on every platform; their tests are skipped there.
(ensure_environment "dev,oracle") || {
  say "going on without the oracles"
  ensure_environment "dev"
}

say "ruff check"
"$VENV_PYTHON" -m ruff check .
say "ruff format --check"
"$VENV_PYTHON" -m ruff format --check .
say "mypy --strict"
"$VENV_PYTHON" -m mypy
say "pytest"
# A file's tests stay together, as they share what they compile, and files in their order: those of one long test would come
# last else, when no other process has work. More processes than four gain nothing.
exec "$VENV_PYTHON" -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@" </dev/null
