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
    if any(find_spec(name) is None for name in _NEEDED):
        return False
    tvm = find_spec("tvm")
    libraries = Path(tvm.origin).parent / "lib" if tvm is not None and tvm.origin else None
    # A TVM of one's own build may have its libraries elsewhere.
    if libraries is None or not any(libraries.glob("libtvm_runtime.*")):
        return True
    return any(libraries.glob("libtvm_compiler.*"))
