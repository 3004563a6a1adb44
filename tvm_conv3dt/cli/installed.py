"""What of the package's extras is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

__all__ = ["has_compiler"]

# What compiling imports of the extra `compiler`; the extra `board` brings TVM alone.
_NEEDED = ("tvm", "filelock", "platformdirs")


def has_compiler() -> bool:
    """Whether kernels can be compiled here.

    A board has TVM without the packages that this one adds to it, and where space is short without its compiler's library:
    docs/boards.md.
    """
    tvm, *others = map(find_spec, _NEEDED)
    if tvm is None or tvm.origin is None or None in others:
        return False
    libraries = {path.stem for path in Path(tvm.origin).parent.glob("lib/libtvm_*")}
    # A TVM of one's own build may have its libraries elsewhere.
    return "libtvm_compiler" in libraries or "libtvm_runtime" not in libraries
