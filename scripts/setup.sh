# Sourced by the other scripts: finds a Python, makes .venv, installs the pinned versions.
#
#   ensure_environment EXTRAS    leaves a ready interpreter in $VENV_PYTHON
#
# PYTHON=/path/to/python picks the interpreter that .venv is made with.

REPOSITORY="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$REPOSITORY/.venv"
VENV_PYTHON="$VENV/bin/python"
CONSTRAINTS="$REPOSITORY/scripts/constraints.txt"

say() { printf '==> %s\n' "$*" >&2; }

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 3
}

# True where $1 is a Python 3.10 or newer that can make virtual environments.
usable_python() {
  "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    usable_python "$PYTHON" || fail "failed to use PYTHON=$PYTHON: it must be Python 3.10 or newer with the venv module"
    printf '%s\n' "$PYTHON"
    return
  fi
  local candidate
  for candidate in python3 python python3.13 python3.12 python3.11 python3.10 python3.14; do
    if usable_python "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  fail "failed to find a Python: 3.10 or newer with the venv module is needed (Debian and Ubuntu: apt install python3 python3-venv; or set PYTHON=/path/to/python)"
}

# One line that changes whenever the environment must be installed anew.
environment_key() {
  "$VENV_PYTHON" - "$REPOSITORY" "$1" <<'PYTHON_END'
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
digest = hashlib.sha256()
for name in ("pyproject.toml", "scripts/constraints.txt"):
    digest.update((root / name).read_bytes())
print(sys.argv[2], root, sys.version.split()[0], digest.hexdigest())
PYTHON_END
}

install() {
  # Both variables: pip's releases differ in which of them reaches a build's own environment.
  PIP_CONSTRAINT="$CONSTRAINTS" PIP_BUILD_CONSTRAINT="$CONSTRAINTS" \
    "$VENV_PYTHON" -m pip install --quiet --quiet --disable-pip-version-check --no-input "$@"
}

ensure_environment() {
  local extras="$1" stamp="$VENV/.installed-${1//,/-}" key
  cd "$REPOSITORY" || exit 3
  if ! usable_python "$VENV_PYTHON" || ! "$VENV_PYTHON" -m pip --version >/dev/null 2>&1; then
    local python
    python="$(find_python)" || exit 3
    say "making .venv with $("$python" --version 2>&1)"
    rm -rf "$VENV"
    "$python" -m venv "$VENV" </dev/null || fail "failed to make $VENV with $python: see the lines above"
  fi
  key="$(environment_key "$extras")"
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$key" ]; then
    say "using .venv ($extras)"
    return
  fi
  say "installing the pinned packages ($extras); the first time this downloads several hundred MB"
  install --editable ".[$extras]" </dev/null ||
    fail "failed to install tvm-conv3dt[$extras]: pip's message is above; is a package index reachable?"
  printf '%s\n' "$key" >"$stamp"
}
