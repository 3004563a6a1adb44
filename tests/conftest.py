"""Options of the conformance sweep, and what it tells: seed and counts, in the header and at the end."""

from typing import Any

import pytest

SEED = 20261123
CALLS = 200
TOLD = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance", "random calls against the reference")
    group.addoption(
        "--calls",
        type=int,
        default=CALLS,
        metavar="N",
        help=f"legal calls in the sweep (default {CALLS}; 2000 take most of an hour)",
    )
    group.addoption(
        "--conformance-seed",
        type=int,
        default=SEED,
        metavar="N",
        help=f"what all random calls are drawn from (default {SEED})",
    )
    group.addoption(
        "--workload",
        metavar="ID",
        help="run the sweep's checks on this one workload instead: what a failure names",
    )
    parser.getgroup(
        "aarch64", "bundles on an aarch64 machine, which is emulated elsewhere"
    ).addoption(
        "--whole-layers",
        action="store_true",
        help="run the largest layers of set ci there in their full size too (many minutes)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TOLD] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    # One of several processes (pytest-xdist) hands over what it has to tell.
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["told"] = session.config.stash[TOLD]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    node.config.stash[TOLD].extend(getattr(node, "workeroutput", {}).get("told", []))


def pytest_report_header(config: pytest.Config) -> str:
    seed, calls = config.getoption("--conformance-seed"), config.getoption("--calls")
    return f"conformance: --conformance-seed {seed} --calls {calls}"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    told = config.stash[TOLD]
    if told:
        terminalreporter.section(f"conformance, seed {config.getoption('--conformance-seed')}")
        for line in told:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def tell(pytestconfig: pytest.Config):
    """``tell(line)`` adds a line to the run's summary, also where all tests pass."""
    return pytestconfig.stash[TOLD].append
