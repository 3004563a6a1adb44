"""What files of schedules and trials must have in common with this installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tvm

from tvm_conv3dt.compiler import definition
from tvm_conv3dt.errors import SignatureError, describe, show

__all__ = ["check_signature", "signature"]


def signature() -> dict[str, Any]:
    """Return what schedules and logs must have in common with this installation."""
    return {"tvm": tvm.__version__, "definition": definition.VERSION}


def check_signature(
    path: Path, found: object, device: str, device_found: object, mend: str
) -> None:
    """Refuse a schedule or log of another TVM, definition or device.

    Raises
    ------
    SignatureError
        With what was found, and `mend`.
    """
    if found != signature():
        rule = f"this installation has {show(signature())}"
        raise SignatureError(describe("use", f"{path}", f"signature {show(found)}", rule, mend))
    if device_found != device:
        rule = f"it is in the folder of device {device}, and what one device measured says nothing of another"
        raise SignatureError(describe("use", f"{path}", f"device {show(device_found)}", rule, mend))
