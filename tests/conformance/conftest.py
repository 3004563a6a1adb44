"""The sweep: one strategy, one seed, and as many calls as asked for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tvm_conv3dt import memory
from tvm_conv3dt.spec import Workload

# Shrinking compiles each smaller call; a long sweep reports what fails as it was drawn.
_SHRUNK = 300
# Each entry of the cache holds a runtime library of some MB; the newest are those that a process may still load from.
_KEPT = 300


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--workload") is not None:
        here = Path(__file__).parent
        items[:] = [
            item
            for item in items
            if here not in item.path.parents
            or {"sweep", "workload_option"} & set(getattr(item, "fixturenames", ()))
        ]


@pytest.fixture(scope="session")
def conformance_seed(pytestconfig: pytest.Config) -> int:
    return pytestconfig.getoption("--conformance-seed")


@pytest.fixture(scope="session")
def calls(pytestconfig: pytest.Config) -> int:
    """How many legal calls the main sweep makes; others take a share."""
    return pytestconfig.getoption("--calls")


@pytest.fixture(scope="session")
def workload_option(pytestconfig: pytest.Config) -> Workload | None:
    """The one workload to check instead, where there is one."""
    text = pytestconfig.getoption("--workload")
    return None if text is None else Workload.from_id(text)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TVM_CONV3DT_CACHE", str(folder))
        yield folder
    shutil.rmtree(folder)


def _forget_old(cache: Path) -> None:
    manifests = sorted(cache.glob("*/*/manifest.json"), key=lambda path: path.stat().st_mtime)
    for manifest in manifests[:-_KEPT]:
        shutil.rmtree(manifest.parent)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """New memory for results and packed filters is full of NaN."""
    plain = memory.aligned_empty

    def filled(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        array = plain(shape, dtype)
        array.view(np.uint8).fill(0xFF)  # a NaN in every float format
        return array

    monkeypatch.setattr(memory, "aligned_empty", filled)


@pytest.fixture(scope="session")
def sweep(
    conformance_seed: int,
    workload_option: Workload | None,
    tell: Callable[[str], None],
    cache: Path,
) -> Callable[..., None]:
    """``sweep(name, count, strategy, check)`` runs ``check(workload)``, and names the workload that fails.

    Sweeps of one strategy draw the same workloads, so that a later one finds them compiled.
    """

    def sweep(
        name: str,
        count: int,
        strategy: st.SearchStrategy[Workload],
        check: Callable[[Workload], None],
    ) -> None:
        def checked(workload: Workload) -> None:
            try:
                check(workload)
            except Exception as error:
                repeat = f"pytest tests/conformance --workload {workload.id}"
                raise AssertionError(f"{error}\nrepeat with: {repeat}") from error

        if workload_option is not None:
            checked(workload_option)
            return
        passed: set[Workload] = set()
        phases = [Phase.generate, Phase.shrink] if count <= _SHRUNK else [Phase.generate]

        # Hypothesis draws some twice: more than are asked for, of which so many different ones are checked.
        @settings(
            max_examples=2 * count,
            phases=phases,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @seed(conformance_seed)
        @given(strategy)
        def run(workload: Workload) -> None:
            if len(passed) < count and workload not in passed:
                checked(workload)
                passed.add(workload)
                if len(passed) % _KEPT == 0:
                    _forget_old(cache)

        try:
            run()
        finally:
            tell(f"{name}: {len(passed)} different calls passed of {count}")
        assert len(passed) == count

    return sweep
