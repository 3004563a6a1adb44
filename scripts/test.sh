#!/usr/bin/env bash
# Sets everything up and runs every check: lint, format, types, tests.
# Arguments go to pytest: ./scripts/test.sh -k packaging
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# The compiler is needed; TensorFlow is an oracle that not every platform has.
ensure_environment "dev"
if ! (ensure_environment "dev,oracle"); then
  say "TensorFlow is not available here: the tests that compare with it are skipped"
fi

say "ruff check"
"$VENV_PYTHON" -m ruff check .
say "ruff format --check"
"$VENV_PYTHON" -m ruff format --check .
say "mypy --strict"
"$VENV_PYTHON" -m mypy
say "pytest"
exec "$VENV_PYTHON" -m pytest "$@" </dev/null
