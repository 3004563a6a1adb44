"""Is every illegal call a clear error, and a legal one right after it right?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import tvm_conv3dt
from tvm_conv3dt.errors import Conv3dtError
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

from . import illegal
from .illegal import BASE, BIAS, FILTERS, Changes, X

pytest.importorskip("tvm")

COUNT = 500
MESSAGE = re.compile(r"failed to [a-z]+ .+: .+")


def is_refused(call: Callable[[], object]) -> Conv3dtError:
    """Assert that a call ends in an error of ours that `except ValueError` or `TypeError` catches too."""
    with pytest.raises(Conv3dtError) as caught:
        call()
    error, text = caught.value, str(caught.value)
    assert isinstance(error, ValueError | TypeError), text
    assert MESSAGE.fullmatch(text), text
    assert len(text) < 600
    return error


@pytest.fixture(scope="module")
def operator():
    from tvm_conv3dt.compiler.cache import bundle_for

    return tvm_conv3dt.load(bundle_for(BASE)).operator(BASE, FILTERS, BIAS)


@pytest.fixture
def refused(conformance_seed, tell) -> Callable[..., None]:
    """``refused(name, strategy, call, legal)``: each change makes an error, and `legal` passes after it."""

    def refused(
        name: str,
        strategy: st.SearchStrategy[Changes],
        call: Callable[[Changes], object],
        legal: Callable[[], None],
    ) -> None:
        found: Counter[str] = Counter()

        @settings(
            max_examples=COUNT,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @seed(conformance_seed)
        @given(strategy)
        def run(changes: Changes) -> None:
            error = is_refused(lambda: call(changes))
            legal()
            found[type(error).__name__] += 1

        run()
        told = ", ".join(f"{kind} {count}" for kind, count in sorted(found.items()))
        tell(f"illegal calls of {name}: {found.total()} refused: {told}")
        assert found.total() >= COUNT

    return refused


def test_illegal_calls_of_the_function(refused):
    legal = {"output_shape": BASE.output_shape, "strides": 2, "bias": BIAS}
    x, filters, bias = integer_data(BASE, 0)
    expected = reference(BASE, x, filters, bias)

    def call(changes: Changes) -> object:
        arguments = {"input": X, "filters": FILTERS, **legal, **changes}
        return tvm_conv3dt.conv3d_transpose(**arguments)

    def right() -> None:
        arrays = Changes(input=x, filters=filters, bias=bias)
        assert np.array_equal(call(arrays), expected)

    refused("conv3d_transpose", illegal.calls(), call, right)


def test_illegal_workloads(refused):
    legal = {
        "input": BASE.input,
        "filters": BASE.filters,
        "output_shape": BASE.output_shape,
        "strides": 2,
        "bias": True,
    }

    def right() -> None:
        assert Workload.make(**legal) == BASE

    refused(
        "Workload.make",
        illegal.workloads(),
        lambda changes: Workload.make(**{**legal, **changes}),
        right,
    )


def test_illegal_calls_of_an_operator(refused, operator):
    expected = reference(BASE, X, FILTERS, BIAS)

    def call(changes: Changes) -> object:
        if changes.keys() & {"filters", "bias"}:
            return operator.set_filters(**{"filters": 2 * FILTERS, "bias": BIAS, **changes})
        return operator(**{"x": X, **changes})

    def right() -> None:  # with the filters that it had before
        assert np.array_equal(operator(X), expected)

    refused("an operator", illegal.operations(), call, right)
