"""Code for a matrix unit in a process: asked for before it runs, beside PyTorch's and after forks, and left where the kernel refuses."""

import errno
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sandbox import UNIT, needs_filters, needs_unit, without_tiles

pytest.importorskip("tvm")

from tvm_conv3dt import device as catalogue
from tvm_conv3dt import tile_state
from tvm_conv3dt.compiler import schedule, schedule_file
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.compiler.kernel import Kernel, compile_kernel, pack_symbol
from tvm_conv3dt.compiler.spaces.space import space_of
from tvm_conv3dt.errors import PlatformError
from tvm_conv3dt.spec import Workload
from tvm_conv3dt.workload_set import NamedWorkload

V4 = catalogue.get("x86-64-v4")
HALF = Workload.make((1, 2, 4, 16, 32), (2, 2, 2, 16, 32), (1, 4, 8, 32, 16), 2, dtype="bfloat16")
SHIPPED = Path(schedule.__file__).parents[2] / "schedules" / V4.name


# ---- before it runs


class Module(dict):
    """Functions that note that they were looked up."""

    def __init__(self, events):
        self.events = events

    def __missing__(self, name):
        self.events.append(name)
        return lambda *arguments: None


def kernel_of(device, events):
    return Kernel(HALF, device, Module(events), (1,), "uint16", 0)


@pytest.fixture
def asked(monkeypatch):
    """Makes the kernel answer; returns what happens, in its order."""
    events = []

    def answers(reason):
        monkeypatch.setattr(tile_state, "refusal", lambda: events.append("asked") or reason)
        return events

    return answers


def test_kernel_is_asked_before_code_is_looked_up(asked):
    events = asked("")
    kernel_of(UNIT, events).pack()
    kernel_of(UNIT, events).run()
    assert events == ["asked", pack_symbol(HALF), "asked", HALF.id]


def test_code_that_the_kernel_refuses_is_not_called(asked):
    events = asked("the kernel refuses")
    for call in (kernel_of(UNIT, events).pack, kernel_of(UNIT, events).run):
        with pytest.raises(PlatformError, match="the kernel refuses"):
            call()
    assert set(events) == {"asked"}


def test_code_without_the_unit_asks_for_nothing(asked):
    events = asked("")
    kernel_of(V4, events).run()
    assert events == [HALF.id]


# ---- what is borrowed


def test_schedules_of_the_level_without_serve_the_one_with_it_where_it_has_none():
    names = [path.name for path in SHIPPED.glob("*_f32_*.json")]
    assert names
    owners = set()
    for name in names:
        its = schedule_file.read(SHIPPED / name, V4.name)
        own = SHIPPED.with_name(UNIT.name) / name
        wanted = schedule_file.read(own, UNIT.name) if own.is_file() else its
        assert schedule_file.find(its.workload, replace(UNIT, cores=2), [SHIPPED.parent]) == wanted
        owners.add(wanted.device)
    assert owners == {UNIT.name, V4.name}


def test_borrowed_schedules_are_the_same_code_with_the_unit_and_without():
    path = min(SHIPPED.glob("*_f32_*.json"))
    its = schedule_file.read(path, V4.name)
    codes = []
    for device in (V4, UNIT):
        built = compile_kernel(its.layout(device), device, its.apply(device))
        source = built.module.mod.inspect_source("s")
        functions = re.findall(r"@function\n(\S+):(.*?)\.size\t\1,", source, re.DOTALL)
        # TVM puts its own conversions of float16 into every library, and the instructions of a CPU that has some.
        codes.append([each for each in functions if not re.match(r"__(trunc|extend)", each[0])])
    assert any("parallel" in name for name, _ in codes[0])
    assert codes[0] == codes[1]


# ---- in a process


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of `HALF` whose level for the matrix unit uses it, and one without; to be read only."""
    folder = tmp_path_factory.mktemp("unit")
    for device in (UNIT, V4):
        points = space_of(device).default_points(HALF, device)
        # Of the formulations that the device has, one for the unit where there is one.
        chosen = next((each for each in points if each.formulation.startswith("amx-")), points[0])
        schedule_file.write(schedule.point_schedule(HALF, device, chosen), folder / "schedules")
    named = [NamedWorkload("half", HALF)]
    build_bundle(named, [UNIT, V4], folder / "bundle", schedules=[folder / "schedules"])
    return folder / "bundle"


PREAMBLE = """
import sys
import numpy as np
import tvm_conv3dt
from tvm_conv3dt.reference import integer_data, reference

def check():
    bundle = tvm_conv3dt.load(sys.argv[1])
    workload = bundle.workloads["half"]
    x, filters, _ = integer_data(workload, 1)
    operator = bundle.operator("half", filters)
    expected = reference(workload, x, filters).astype(x.dtype)

    def call():
        y = np.full(workload.output_shape, np.nan, x.dtype)
        operator(x, out=y)
        return bool(np.array_equal(y, expected))

    assert call()
    return bundle.level.device, call
"""


def run(bundle, program, **options):
    """Run a program in a fresh process and return the words that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(program), str(bundle)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@needs_unit
def test_unit_is_used_where_the_kernel_grants_it(bundle):
    assert run(bundle, "print(check()[0])") == [UNIT.name]


@needs_unit
def test_threads_and_forks_run_it(bundle):
    program = """
        import os, threading
        level, call = check()
        right = []
        callers = [threading.Thread(target=lambda: right.append(call())) for _ in range(3)]
        for each in callers: each.start()
        for each in callers: each.join()
        child = os.fork()
        if child == 0:
            os._exit(0 if check()[1]() else 1)
        print(level, all(right), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert run(bundle, program) == [UNIT.name, "True", "0"]


@needs_unit
def test_pytorch_multiplies_as_before_beside_it(bundle):
    torch = pytest.importorskip("torch")
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    program = """
        import threading
        import torch

        numbers = torch.Generator().manual_seed(0)
        a, b = (torch.randn(256, 256, generator=numbers).bfloat16() for _ in "ab")
        convolved = torch.randn(1, 32, 8, 16, 16, generator=numbers).bfloat16()
        filters = torch.randn(32, 16, 2, 2, 2, generator=numbers).bfloat16()

        def theirs():
            return a @ b, torch.nn.functional.conv_transpose3d(convolved, filters, stride=2)

        def unchanged():
            return all(map(torch.equal, theirs(), before))

        before = theirs()
        assert torch.allclose(before[0].float(), a.float() @ b.float(), rtol=2**-6, atol=2**-3)
        level, call = check()
        in_turns = all([unchanged() and call() for _ in range(5)])

        at_once = []
        def caller(what):
            at_once.append(all([what() for _ in range(20)]))
        callers = [threading.Thread(target=caller, args=(what,)) for what in (unchanged, call) * 2]
        for each in callers: each.start()
        for each in callers: each.join()
        print(level, in_turns, *at_once)
    """
    assert run(bundle, program) == [UNIT.name, "True", *["True"] * 4]


@needs_unit
def test_pytorch_that_comes_later_multiplies_as_without_it(bundle):
    pytest.importorskip("torch")
    product = """
        import torch
        numbers = torch.Generator().manual_seed(0)
        a, b = (torch.randn(256, 256, generator=numbers).bfloat16() for _ in "ab")
        print((a @ b).view(torch.int16).long().sum().item())
    """
    with_it = "check()\n" + textwrap.dedent(product)
    assert run(bundle, with_it) == run(bundle, product)


@needs_filters
@needs_unit
@pytest.mark.parametrize("answer", [errno.EPERM, 0])
def test_level_without_it_runs_where_the_kernel_refuses(bundle, answer):
    refused = partial(without_tiles, answer)
    assert run(bundle, "print(check()[0])", preexec_fn=refused) == [V4.name]


@needs_filters
@needs_unit
def test_call_is_compiled_without_it_where_the_kernel_refuses(bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("TVM_CONV3DT_CACHE", str(tmp_path))
    program = """
        from tvm_conv3dt.spec import Workload
        workload = tvm_conv3dt.load(sys.argv[1]).workloads["half"].recast(dtype="float16")
        x, filters, _ = integer_data(workload, 1)
        y = tvm_conv3dt.conv3d_transpose(x, filters, workload.output_shape, workload.strides)
        from tvm_conv3dt.runtime.bundle import loaded
        level = loaded()[-1].level
        print(np.array_equal(y, reference(workload, x, filters)), *level.cpu_features)
    """
    refused = partial(without_tiles, errno.EPERM)
    assert run(bundle, program, preexec_fn=refused) == ["True", *V4.cpu_features]
