"""Blocks of channels, one vector each."""

from __future__ import annotations

from typing import Any

from tvm import tirx

__all__ = ["block_start"]


def block_start(block: Any, lanes: int, channels: int) -> Any:
    """Return the first channel of a block, as an expression.

    Where channels do not fill the last block it starts early enough to be a whole one, and shares channels with the
    block before it: nothing is loaded or stored in part. With fewer channels than lanes there is one block.
    """
    start = block * lanes
    if channels % lanes == 0 or channels < lanes:
        return start
    return tirx.min(start, tirx.const(channels - lanes, "int32"))
