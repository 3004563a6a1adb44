"""The measuring process of a GPU: as `worker`, with the CUDA runtime library loaded before TVM, whose part for GPUs needs it."""

from __future__ import annotations

from tvm_conv3dt import cudart

__all__ = ["main"]


def main() -> None:
    """Answer requests until the connection ends."""
    cudart.load()
    from tvm_conv3dt.compiler.search import worker

    worker.main()


if __name__ == "__main__":
    main()
