"""Whether a kernel computes what it should: exactly on integers, within a bound on random data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_conv3dt.errors import VerificationError, describe
from tvm_conv3dt.reference import integer_data, random_data, reference, rounded
from tvm_conv3dt.spec import FLOAT16_TERMS, Workload

__all__ = ["EPSILON", "Check", "Verification", "verify"]

Array = npt.NDArray[Any]
Run = Callable[[Array, Array, "Array | None", Array], object]

# Activations that keep integers exact: a comparison, or one correctly rounded product.
_EXACT_ACTIVATIONS = (None, "relu", "leaky_relu")

EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Machine epsilon of each dtype."""

_LEAST_NORMAL = {
    "float64": 2.0**-1022,
    "float32": 2.0**-126,
    "float16": 2.0**-14,
    "bfloat16": 2.0**-126,
}

_LEAST_FLOAT16 = 2.0**-24  # above zero


@dataclass(frozen=True)
class Check:
    """One comparison with the reference.

    Attributes
    ----------
    data : str
        ``"integers"`` or ``"random"``.
    seed : int
        Of the data.
    status : str
        ``"PASSED"``; ``"FAILED"``; or ``"MISTRUSTED"`` where a right result would be mostly zeros, so that
        being right means little.
    worst : float
        The largest error as a share of what is allowed (0 where all is exact, infinite where an exact value
        differs).
    detail : str
        What is wrong, and where first; empty where nothing is.
    """

    data: str
    seed: int
    status: str
    worst: float
    detail: str


@dataclass(frozen=True)
class Verification:
    """All comparisons of one workload."""

    workload: Workload
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether there are checks, and all have passed."""
        return bool(self.checks) and all(check.status == "PASSED" for check in self.checks)

    @property
    def status(self) -> str:
        """The worst status of all checks."""
        found = {check.status for check in self.checks}
        return next((s for s in ("FAILED", "MISTRUSTED", "PASSED") if s in found), "MISTRUSTED")

    def raise_if_failed(self) -> None:
        """Raise the first check that has not passed.

        Raises
        ------
        VerificationError
            If there is one, or nothing was checked.
        """
        for check in self.checks:
            if check.status != "PASSED":
                value = f"workload {self.workload.id}, {check.data} of seed {check.seed}"
                raise VerificationError(describe("verify", "kernel", value, check.detail))
        if not self.checks:
            rule = "no data was checked"
            raise VerificationError(describe("verify", "kernel", self.workload.id, rule))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object."""
        checks = [
            {**asdict(check), "worst": check.worst if math.isfinite(check.worst) else None}
            for check in self.checks
        ]
        return {"id": self.workload.id, "status": self.status, "checks": checks}


def verify(workload: Workload, run: Run, seeds: Sequence[int] = (0,)) -> Verification:
    """Compare a kernel with the reference.

    On small integers every sum is exact in any order, so equality is demanded. On random data
    each output may differ from the float64 result by what rounding can do in the worst order of its
    own sum, and where the workload has a precision by what that permits. Outputs
    are filled with NaN beforehand: what is not written shows.

    Parameters
    ----------
    workload : Workload
        What the kernel computes.
    run : callable
        ``run(x, filters, bias, out)`` writes the result to `out`; `bias` is None where there is none.
    seeds : sequence of int
        Each gives integers and random data.

    Returns
    -------
    Verification
        The results; nothing is raised for a wrong one.
    """
    products = _products(workload)
    checks = []
    for seed in seeds:
        for data in ("integers", "random"):
            checks.append(_check(workload, run, products, data, seed))
    return Verification(workload, tuple(checks))


def _check(workload: Workload, run: Run, products: Array, data: str, seed: int) -> Check:
    x, filters, bias = (integer_data if data == "integers" else random_data)(workload, seed)
    linear = replace(workload, activation=None, alpha=None)
    sums = reference(linear, x, filters, bias)
    reached = np.broadcast_to(products > 0, sums.shape)
    # Where no tap reaches any output, as narrow outputs of dilated kernels have it, zeros are all there is.
    if reached.any() and np.count_nonzero(sums[reached]) * 2 <= np.count_nonzero(reached):
        return Check(data, seed, "MISTRUSTED", 0.0, "the right result is mostly zeros")
    expected = sums if workload.activation is None else reference(workload, x, filters, bias)
    exact = data == "integers" and workload.activation in _EXACT_ACTIVATIONS
    if exact:
        expected = rounded(workload, expected)
        allowed: Array = np.zeros((), np.float64)
    else:
        bare = replace(linear, bias=False)
        terms = reference(bare, abs(x), abs(filters))
        allowed = _allowed(workload, products, terms, _along_channels(workload, bias), expected)
    out = np.full(workload.output_shape, np.nan, workload.numpy_dtype)
    run(x.copy(), filters.copy(), None if bias is None else bias.copy(), out)
    return _compare(data, seed, out, expected, allowed)


def _compare(data: str, seed: int, out: Array, expected: Array, allowed: Array) -> Check:
    with np.errstate(invalid="ignore", over="ignore"):
        errors = abs(out.astype(np.float64) - expected.astype(np.float64))
        errors[np.equal(out, expected.astype(out.dtype))] = 0.0  # infinities of the same sign too
        wrong = ~(errors <= allowed)  # NaN is wrong
        shares = np.divide(errors, allowed, out=np.zeros_like(errors), where=allowed > 0)
    if not wrong.any():
        return Check(data, seed, "PASSED", float(shares.max()), "")
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    limit = float(np.broadcast_to(allowed, out.shape)[place])
    count = int(np.count_nonzero(wrong))
    unwritten = int(np.count_nonzero(np.isnan(out)))
    detail = (
        f"{count} of {out.size} outputs are wrong, first at {list(place)}: "
        f"{float(out[place])!r} instead of {float(expected[place])!r}"
        + (f" within {limit:.3g}" if limit else "")
        + (f"; {unwritten} are NaN, which unwritten ones would be" if unwritten else "")
    )
    finite = shares[np.isfinite(shares)].max(initial=0.0)
    worst = float(finite) if limit and np.isfinite(errors[wrong]).all() else math.inf
    return Check(data, seed, "FAILED", worst, detail)


def _products(workload: Workload) -> Array:
    """How many products meet in each output position, as an array that broadcasts to the output."""
    channels = workload.data_format.index("C")

    def thin(shape: tuple[int, ...], *axes: int) -> list[int]:
        return [1 if axis in axes else size for axis, size in enumerate(shape)]

    one = Workload.make(
        thin(workload.input, 0, channels),
        thin(workload.filters, 3, 4),
        thin(workload.output_shape, 0, channels),
        list(workload.strides),
        workload.padding,
        workload.data_format,
        list(workload.dilations),
    )
    counts = reference(one, np.ones(one.input), np.ones(one.filters))
    return np.rint(counts) * workload.in_channels


def _along_channels(workload: Workload, bias: Array | None) -> Array:
    """Return the magnitudes of the bias as an array that broadcasts to the output."""
    if bias is None:
        return np.zeros((), np.float64)
    after = 3 if workload.data_format == "NCDHW" else 0
    return np.abs(bias.astype(np.float64)).reshape(-1, *(1,) * after)


def _permitted(workload: Workload, products: Array) -> Array:
    """Return the share of its terms by which a precision lets a sum of so many products be off: docs/precision.md."""
    if workload.precision == "float16":
        roundings = np.minimum(products, FLOAT16_TERMS) * EPSILON["float16"] / 2
        return np.asarray(roundings / (1 - roundings))
    # Rounding both factors to bfloat16 changes a product by less than this share of it.
    return np.asarray(EPSILON["bfloat16"] if workload.precision == "bfloat16" else 0.0)


def _allowed(
    workload: Workload, products: Array, terms: Array, bias: Array, expected: Array
) -> Array:
    # A sum of n products, in whatever order, is off by at most n roundings of the sum of magnitudes; the bias
    # is one more, and is never rounded to a precision. Then the result is rounded to its type.
    epsilon = EPSILON[workload.dtype]
    rounding = EPSILON[workload.sum_dtype] / 2
    share = _permitted(workload, products)
    magnitudes = (1 + share) * terms + bias
    allowed = (products + 2) * rounding * magnitudes + share * terms
    if workload.precision == "float16":
        allowed += (
            products * _LEAST_FLOAT16
        )  # as wide as the steps of sums below the normal numbers
    if workload.activation is not None:
        allowed *= max(1.0, abs(workload.alpha or 0.0))  # no activation is steeper
        if workload.activation not in _EXACT_ACTIVATIONS:
            # Vectorised exp and tanh are polynomials, right to a few units of their largest value, 1.
            allowed += 32 * rounding * 2 * max(1.0, abs(workload.alpha or 0.0))
    # Below the normal numbers all steps are as wide as at their end.
    result: Array = allowed + epsilon / 2 * np.maximum(abs(expected), _LEAST_NORMAL[workload.dtype])
    return result
