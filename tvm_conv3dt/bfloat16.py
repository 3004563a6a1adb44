"""NumPy's bfloat16, which a package of its own brings."""

from __future__ import annotations

from typing import Any

import numpy as np

from tvm_conv3dt.errors import UnsupportedError, describe

__all__ = ["bfloat16", "numpy_dtype"]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype of a name in `spec.DTYPES`.

    Raises
    ------
    UnsupportedError
        For bfloat16 where the package ml_dtypes is not installed.
    """
    return bfloat16() if name == "bfloat16" else np.dtype(name)


def bfloat16() -> np.dtype[Any]:
    """Return NumPy's dtype of bfloat16.

    Raises
    ------
    UnsupportedError
        If the package ml_dtypes is not installed.
    """
    try:
        import ml_dtypes
    except ImportError as error:
        rule = "NumPy has no bfloat16 of its own"
        mend = "install it with: pip install ml_dtypes"
        raise UnsupportedError(
            describe("find", "NumPy dtype", "dtype='bfloat16'", rule, mend)
        ) from error
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype
