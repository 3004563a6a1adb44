"""Bundles for the runtime's tests: kernels as plain as can be, whatever the compiler may become."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tvm_conv3dt import cpu
from tvm_conv3dt.gpu import KernelResources
from tvm_conv3dt.level import Kernel, Level, LibraryFile, ScheduleSummary
from tvm_conv3dt.manifest import CudaRuntime, Layer, Manifest, Platform
from tvm_conv3dt.spec import Workload

tvm = pytest.importorskip("tvm")

PLAIN = Workload.make([1, 4, 5, 6, 3], [2, 2, 2, 8, 3], [1, 8, 10, 12, 8], 2, "VALID")
BIASED = Workload.make(
    [2, 3, 4, 5, 2], [3, 3, 3, 4, 2], [2, 6, 7, 10, 4], 2, bias=True, activation="relu"
)
# Large enough that every thread gets work and a slow one overlaps with the others.
LARGE = Workload.make([1, 8, 16, 16, 16], [3, 3, 3, 16, 16], [1, 16, 32, 32, 16], 2)
WORKLOADS = {"test/plain": PLAIN, "test/biased": BIASED, "test/large": LARGE}


def naive_kernel(workload: Workload):
    """``run`` and ``pack`` of one workload: a gather over all taps, filters packed as they are."""
    from tvm import te, tirx

    size = workload.input_spatial
    x = te.placeholder(workload.input, name="x")
    filters = te.placeholder(workload.filters, name="filters")
    packed = te.placeholder(workload.filters, name="packed")
    bias = te.placeholder((workload.out_channels,), name="bias")
    taps = [te.reduce_axis((0, extent)) for extent in (*workload.kernel, workload.in_channels)]

    def product(n, d, h, w, c):
        hits, places = [], []
        for axis, position in enumerate((d, h, w)):
            offset = (
                position + workload.pad_before[axis] - workload.dilations[axis] * taps[axis].var
            )
            place = tirx.floordiv(offset, workload.strides[axis])
            divides = tirx.floormod(offset, workload.strides[axis]) == 0
            hits.append(tirx.all(divides, place >= 0, place < size[axis]))
            places.append(place)
        channel = taps[3].var
        factor = packed[(*(tap.var for tap in taps[:3]), c, channel)]
        value = x[(n, *places, channel)] * factor
        return te.sum(
            tirx.if_then_else(tirx.all(*hits), value, tirx.const(0.0, "float32")), axis=taps
        )

    y = te.compute(workload.output_shape, product, name="y")
    arguments = [x, packed, y]
    if workload.bias:
        y = te.compute(
            workload.output_shape,
            lambda *at: tirx.max(y[at] + bias[at[-1]], tirx.const(0.0, "float32")),
            name="z",
        )
        arguments = [x, packed, bias, y]
    copied = te.compute(workload.filters, lambda *at: filters[at], name="copied")
    name = workload.id
    schedule = tvm.s_tir.Schedule(
        tvm.IRModule({name: te.create_prim_func(arguments).with_attr("global_symbol", name)})
    )
    schedule.parallel(schedule.get_loops(schedule.get_sblock("y", func_name=name))[1])
    module = schedule.mod
    pack = te.create_prim_func([filters, copied]).with_attr("global_symbol", f"{name}_pack")
    module.update(tvm.IRModule({f"{name}_pack": pack}))
    return module


# Levels by their names, with the CPU features that they need, the most demanding first.
LEVELS: Mapping[str, tuple[str, ...]] = {"test": ()}


def write_bundle(
    folder: Path, workloads: Mapping[str, Workload], levels: Mapping[str, tuple[str, ...]] = LEVELS
) -> Path:
    """Write a bundle whose levels differ in nothing but their names and what they say to need."""
    import tvm_ffi

    folder.mkdir(parents=True)
    runtime = folder / "libtvm_runtime.so"
    shutil.copy(Path(tvm.__file__).parent / "lib" / runtime.name, runtime)
    kernels: dict[str, list[Kernel]] = {level: [] for level in levels}
    for name, workload in workloads.items():
        library = folder.with_name(f"{workload.id}.so")
        target = tvm.target.Target({"kind": "llvm"})
        tvm.compile(naive_kernel(workload), target=target).export_library(str(library))
        for level, held in kernels.items():
            file = LibraryFile.of(shutil.copy(library, folder / f"{workload.id}.{level}.so"))
            schedule = ScheduleSummary("default", "gather", None)
            held.append(Kernel(name, file, workload.filters, "float32", 0, schedule))
        library.unlink()
    Manifest(
        package="0.1.0",
        tvm=tvm.__version__,
        tvm_ffi=tvm_ffi.__version__,
        definition=1,
        platform=Platform("llvm", "linux", cpu.architecture()),
        runtime=LibraryFile.of(runtime),
        cuda=None,
        layers=tuple(
            Layer(name, workload, workload.id, f"{workload.id}_pack")
            for name, workload in workloads.items()
        ),
        levels=tuple(
            Level(name, "generic", features, tuple(kernels[name]))
            for name, features in levels.items()
        ),
    ).write(folder)
    return folder


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory) -> Path:
    """A bundle of the three test workloads; to be read only."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "bundle", WORKLOADS)


@pytest.fixture(scope="session")
def cuda_folder(bundle_folder, tmp_path_factory) -> Path:
    """A bundle that says to be for GPUs of two architectures; its kernels are the others'. To be read only."""
    folder = tmp_path_factory.mktemp("cuda") / "bundle"
    shutil.copytree(bundle_folder, folder)
    part = folder / "libtvm_runtime_cuda.so"
    shutil.copy(Path(tvm.__file__).parent / "lib" / part.name, part)
    manifest = Manifest.read(folder)
    (level,) = manifest.levels
    levels = []
    for arch in ("sm_90", "sm_87"):
        kernels = []
        for kernel in level.kernels:
            file = f"{kernel.library.file.removesuffix('.test.so')}.{arch}.so"
            library = LibraryFile.of(shutil.copy(folder / kernel.library.file, folder / file))
            resources = (KernelResources("run_kernel", 256, 128, 49152, 0, 0),)
            kernels.append(replace(kernel, library=library, resources=resources))
        levels.append(replace(level, device=f"cuda-{arch}", kernels=tuple(kernels), gpu_arch=arch))
    for kernel in level.kernels:
        (folder / kernel.library.file).unlink()
    replace(
        manifest,
        platform=replace(manifest.platform, kind="cuda"),
        cuda=CudaRuntime(LibraryFile.of(part), "libcudart.so.13", "13.0"),
        levels=tuple(levels),
    ).write(folder)
    return folder


@pytest.fixture
def broken_folder(bundle_folder, tmp_path) -> Path:
    """A copy of the bundle, to be damaged."""
    return Path(shutil.copytree(bundle_folder, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    return write_bundle


@pytest.fixture(scope="session")
def bundle(bundle_folder):
    from tvm_conv3dt import runtime

    return runtime.load(bundle_folder)
