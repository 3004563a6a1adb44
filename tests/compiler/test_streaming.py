"""Do streaming stores write what ordinary ones do, wherever the output lies?"""

from dataclasses import replace

import numpy as np
import pytest

tvm = pytest.importorskip("tvm")
import tvm_ffi

from tvm_conv3dt import cpu
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler import kernel
from tvm_conv3dt.compiler.spaces import llvm, streams
from tvm_conv3dt.compiler.spaces.default_point import default_points
from tvm_conv3dt.memory import aligned_empty
from tvm_conv3dt.reference import integer_data, reference
from tvm_conv3dt.spec import Workload

WORKLOADS = {
    "whole vectors": Workload.make(
        (1, 2, 3, 5, 4), (3, 3, 3, 32, 4), (1, 4, 6, 10, 32), 2, bias=True
    ),
    "vectors of half the bytes": Workload.make(
        (1, 2, 3, 5, 3), (2, 2, 2, 16, 3), (1, 4, 6, 10, 16), 2, dtype="float16"
    ),
}

pytestmark = pytest.mark.skipif(
    cpu.architecture() != "x86_64", reason="stores are streamed on x86-64 only"
)


@pytest.fixture
def streams_all(monkeypatch):
    """Whatever its size, an output may pass by the caches."""
    monkeypatch.setattr(streams, "_STREAMED_BYTES", 0)


def compiled(workload, device, stream):
    chosen = replace(default_points(workload, device)[0], stream=stream)
    layout = llvm.layout_of(workload, device, chosen.formulation)
    sch = kernel.new_schedule(layout)
    llvm.apply(sch, layout, device, chosen.family, chosen.choose)
    return kernel.compile_kernel(layout, device, sch)


def assembly(built):
    module = getattr(built.module, "mod", built.module)
    return "".join(
        each.inspect_source("asm") for each in [module, *module.imports] if each.kind == "llvm"
    )


@pytest.mark.parametrize("offset", [0, 1, 4])
@pytest.mark.parametrize("name", WORKLOADS)
def test_streamed_result_is_exact_at_any_address(name, offset, host, streams_all):
    workload = WORKLOADS[name]
    built = compiled(workload, host, stream=1)
    x, filters, bias = integer_data(workload, seed=0)
    packed = tvm.runtime.empty(built.packed_shape, built.packed_dtype)
    built.pack(tvm.runtime.tensor(filters), packed)
    size = int(np.prod(workload.output_shape))
    memory = aligned_empty((size + 2 * offset,), workload.numpy_dtype)
    memory[...] = np.nan
    y = memory[offset : offset + size].reshape(workload.output_shape)
    constants = () if bias is None else (tvm.runtime.tensor(bias),)
    built.run(tvm.runtime.tensor(x), packed, *constants, tvm_ffi.from_dlpack(y))
    assert np.array_equal(y, reference(workload, x, filters, bias))
    # Nothing before and after it.
    assert np.isnan(memory[:offset]).all()
    assert np.isnan(memory[offset + size :]).all()


@pytest.mark.parametrize("stream", [0, 1])
def test_code_has_streaming_stores_where_they_are_chosen(stream, host, streams_all):
    found = assembly(compiled(WORKLOADS["whole vectors"], host, stream))
    assert ("movntps" in found) == bool(stream)
    # Who waits for a task must find what it stored.
    assert ("sfence" in found) == bool(stream)


def may_stream(workload, device, formulation="phases"):
    return 1 in streams.stream_candidates(llvm.layout_of(workload, device, formulation), device)


def test_small_output_is_not_streamed(host):
    assert not may_stream(WORKLOADS["whole vectors"], host)


@pytest.mark.parametrize(
    ("channels", "formulation", "data_format", "streamed"),
    [
        (32, "phases", "NDHWC", True),
        (20, "phases", "NDHWC", False),
        (20, "phases", "NCDHW", True),
        (8, "phases", "NDHWC", False),
        (8, "fold-w", "NDHWC", True),
        (12, "fold-w", "NDHWC", False),
        (1, "amx-taps-dhw-1x1", "NDHWC", False),  # of rows of ten
    ],
)
def test_vectors_that_are_not_aligned_are_not_streamed(
    channels, formulation, data_format, streamed, streams_all
):
    device = catalogue.get("x86-64-v4")
    workload = Workload.make(
        (1, 2, 3, 5, 3), (2, 2, 2, channels, 3), (1, 4, 6, 10, channels), 2
    ).recast(data_format=data_format)
    assert may_stream(workload, device, formulation) == streamed


def test_other_architectures_are_not_streamed(streams_all):
    assert not may_stream(WORKLOADS["whole vectors"], catalogue.get("raspberry-pi-4"))
