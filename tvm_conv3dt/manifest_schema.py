"""Which schemas of a bundle's manifest are read, and how an earlier one becomes the present one.

A bundle outlives the package that built it. So a new schema comes with a step here that brings the one before up to it, where
the libraries of such a bundle still run; where they do not, its number leaves `READABLE`, and reading says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["READABLE", "SCHEMA", "lifted"]

SCHEMA = 3
"""The schema that this version writes."""

READABLE = (2, 3)
"""Those that it reads."""


def lifted(values: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of a readable schema as one of `SCHEMA`.

    What is damaged is left as it is, for whoever takes its fields to refuse.

    Parameters
    ----------
    values : dict
        The JSON object as it was read; it is changed.

    Returns
    -------
    dict
        The same object.
    """
    if values["schema"] == 2:
        _lift_2(values)
    # Came into schema 3 later: a manifest without it says the same.
    values.setdefault("wrapper", None)
    values["schema"] = SCHEMA
    return values


def _lift_2(values: dict[str, Any]) -> None:
    """Bring schema 2 to 3: it knew CPUs only, whose packed filters have the type of the sums."""
    dtypes = {}
    for layer in _objects(values.get("layers")):
        workload = layer.get("workload")
        dtype = workload.get("dtype", "float32") if isinstance(workload, dict) else None
        dtypes[str(layer.get("name"))] = "float64" if dtype == "float64" else "float32"
    values.setdefault("cuda", None)
    for level in _objects(values.get("levels")):
        level.setdefault("gpu_arch", None)
        for kernel in _objects(level.get("kernels")):
            kernel.setdefault("packed_dtype", dtypes.get(str(kernel.get("layer")), "float32"))
            kernel.setdefault("resources", [])


def _objects(values: object) -> Iterator[dict[str, Any]]:
    if isinstance(values, list):
        yield from (value for value in values if isinstance(value, dict))
