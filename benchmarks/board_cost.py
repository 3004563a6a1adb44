"""What a machine that only runs a layer needs: installed size, import, load, first result and resident memory.

    python benchmarks/board_cost.py [--layer nnunet/up3] [--repeat 5] [-o docs/board-cost.md]

builds a bundle that carries its runtime, and starts fresh processes of it and of the frameworks that are installed (extra
`peers`). Each process sees only its own packages and what they require: a folder of links to them is its whole path, so that no
package that happens to be installed is imported along. Every result is compared with the reference.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tvm_conv3dt import device, threads, workload_set
from tvm_conv3dt.compiler.bundle_writer import build_bundle
from tvm_conv3dt.measure.peers import onnx_model
from tvm_conv3dt.measure.peers.problem import Problem
from tvm_conv3dt.reference import reference
from tvm_conv3dt.workload_set import NamedWorkload

# NumPy is imported before anything counts: every one of these needs it, or is given its arrays.
PROGRAM = """
import json, sys, time
import numpy as np
folder, layer, geometry = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
x, filters, bias = (np.load(f"{{folder}}/{{name}}.npy") for name in ("x", "filters", "bias"))
start, used = time.perf_counter(), time.process_time()
{imports}
imported = time.perf_counter()
{prepare}
prepared = time.perf_counter()
y = {call}
called, used = time.perf_counter(), time.process_time() - used
with open("/proc/self/status") as file:
    resident = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
y = np.asarray(y)
expected = np.load(f"{{folder}}/expected.npy")
y = y if y.shape == expected.shape else np.moveaxis(y, 1, -1)
assert np.allclose(y, expected, atol=1e-3), "the result is not right"
print(json.dumps([imported - start, prepared - imported, called - prepared, used, resident]))
"""


@dataclass(frozen=True)
class Implementation:
    """How a user runs the layer: the packages to install, and the lines of a program."""

    packages: tuple[str, ...]
    imports: str
    prepare: str
    call: str

    @property
    def program(self) -> str:
        """The program that measures itself."""
        return PROGRAM.format(imports=self.imports, prepare=self.prepare, call=self.call)


OURS = "tvm_conv3dt"
IMPLEMENTATIONS = {
    OURS: Implementation(
        ("numpy", "apache-tvm-ffi"),
        "sys.path.insert(0, f'{folder}/bundle/conv3dt.pyz'); import tvm_conv3dt.runtime",
        "op = tvm_conv3dt.load(f'{folder}/bundle').operator(layer, filters, bias)",
        "op(x)",
    ),
    "ONNX Runtime": Implementation(
        ("onnxruntime",),
        "import onnxruntime",
        "session = onnxruntime.InferenceSession(f'{folder}/layer.onnx'); "
        "x = np.ascontiguousarray(np.moveaxis(x, -1, 1))",
        "session.run(None, {'x': x})[0]",
    ),
    "OpenVINO": Implementation(
        ("openvino",),
        "import openvino",
        "model = openvino.Core().compile_model(f'{folder}/layer.onnx', 'CPU', "
        "{'INFERENCE_PRECISION_HINT': 'f32'}); x = np.ascontiguousarray(np.moveaxis(x, -1, 1))",
        "model(x)[0]",
    ),
    "PyTorch": Implementation(
        ("torch", "numpy"),
        "import torch",
        "x, b = torch.from_numpy(x).permute(0, 4, 1, 2, 3).contiguous(), torch.from_numpy(bias)\n"
        "f = torch.from_numpy(filters.transpose(4, 3, 0, 1, 2).copy())\n"
        "torch.set_grad_enabled(False)",
        "torch.nn.functional.conv_transpose3d("
        "x, f, b, geometry['strides'], geometry['padding']).numpy()",
    ),
    "TensorFlow": Implementation(
        ("tensorflow-cpu",),
        "import tensorflow as tf",
        "x, f, b = tf.constant(x), tf.constant(filters), tf.constant(bias)\n"
        "call = tf.function(lambda x: tf.nn.bias_add(tf.nn.conv3d_transpose("
        "x, f, geometry['output'], geometry['strides'], geometry['name']), b))"
        ".get_concrete_function(x)",
        "call(x)",
    ),
}


def closure(packages: Iterable[str]) -> dict[str, importlib.metadata.Distribution]:
    """Return the distributions of packages and of all that they require."""
    found: dict[str, importlib.metadata.Distribution] = {}
    left = list(packages)
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        found[name] = importlib.metadata.distribution(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
    return found


def files(distributions: Iterable[importlib.metadata.Distribution]) -> dict[str, Path]:
    """Return what distributions have installed as modules and their libraries, by the name on Python's path."""
    return {
        str(file): Path(str(file.locate()))
        for each in distributions
        for file in each.files or ()
        if ".." not in file.parts
    }


def link(folder: Path, installed: dict[str, Path]) -> None:
    """Make a folder that has, as links, nothing but what some distributions have installed."""
    folder.mkdir()
    for name, path in installed.items():
        first, *rest = Path(name).parts
        place = folder / first
        if not place.is_symlink():
            place.symlink_to(path.parents[len(rest) - 1] if rest else path)


def measure(
    implementation: Implementation, data: Path, site: Path, words: list[str], repeat: int
) -> list[float]:
    """Return the medians of what fresh processes print; the first one, which fills the disk's cache, does not count."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    environment |= {"PYTHONPATH": str(site), "TF_CPP_MIN_LOG_LEVEL": "2"}
    samples = []
    for _ in range(repeat + 1):
        done = subprocess.run(
            [sys.executable, "-S", "-P", "-c", implementation.program, str(data), *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=data,
        )
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        samples.append(json.loads(done.stdout.splitlines()[-1]))
    return [statistics.median(column) for column in zip(*samples[1:], strict=True)]


def write_data(folder: Path, named: NamedWorkload) -> list[str]:
    """Write the layer's arrays, its ONNX model and its bundle; return what programs are told of it."""
    workload = named.workload
    problem = Problem.of(workload)
    cut = {*zip(workload.pad_before, problem.pad_after, strict=True)}
    if workload.data_format != "NDHWC" or not workload.bias or any(a != b for a, b in cut):
        raise SystemExit(
            f"failed to compare layer {named.name}: the programs here are for NDHWC, a bias, and "
            "padding that is cut off alike at both ends"
        )
    arrays: dict[str, Any] = {"x": problem.x, "filters": problem.filters, "bias": problem.bias}
    expected = reference(workload, **arrays)
    for name, array in (arrays | {"expected": expected.astype(np.float32)}).items():
        np.save(folder / f"{name}.npy", array)
    (folder / "layer.onnx").write_bytes(onnx_model.model(problem))
    build_bundle([named], [device.host()], folder / "bundle", allow_untuned=True, with_wrapper=True)
    geometry = {
        "strides": workload.strides,
        "padding": workload.pad_before,
        "output": workload.output_shape,
        "name": workload.padding,
    }
    return [named.name, json.dumps(geometry)]


def table(rows: dict[str, tuple[float, list[float]]]) -> str:
    """Return the figures as Markdown."""
    lines = [
        "| | installed MB | import s | load s | first call s | together s | processor s | resident MB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, (size, (imported, loaded, called, used, resident)) in rows.items():
        total = imported + loaded + called
        lines.append(
            f"| {name} | {size / 1e6:.1f} | {imported:.2f} | {loaded:.2f} | {called:.2f} | "
            f"{total:.2f} | {used:.2f} | {resident / 1e6:.0f} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """Return the machine's CPU and the threads that may be used."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return f"{names[0] if names else platform.machine()}, {threads.available()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layer", default="nnunet/up3")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="put the table between its marks there")
    arguments = parser.parse_args()
    (named,) = workload_set.resolve(arguments.layer)
    rows: dict[str, tuple[float, list[float]]] = {}
    versions = []
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "data"
        data.mkdir()
        words = write_data(data, named)
        held = {path.name: path.stat().st_size for path in (data / "bundle").iterdir()}
        for name, implementation in IMPLEMENTATIONS.items():
            try:
                distributions = closure(implementation.packages)
            except importlib.metadata.PackageNotFoundError as error:
                print(f"without {name}: {error}", file=sys.stderr)
                continue
            installed = files(distributions.values())
            size = sum(path.stat().st_size for path in installed.values() if path.is_file())
            if name == OURS:
                size += sum(held.values())
            site = Path(temporary) / name.replace(" ", "")
            link(site, installed)
            figures = measure(implementation, data, site, words, arguments.repeat)
            rows[name] = (size, figures)
            version = distributions[canonicalize_name(implementation.packages[0])].version
            versions.append(f"{implementation.packages[0]} {version}")
            print(f"{name}: {figures}", file=sys.stderr)
    numpy_size = sum(
        path.stat().st_size
        for path in files([importlib.metadata.distribution("numpy")]).values()
        if path.is_file()
    )
    text = (
        f"{table(rows)}\n\n"
        f"Layer {named.name} (`{named.workload.id}`), {machine()}, Python {platform.python_version()}; "
        f"medians of {arguments.repeat} fresh processes, load average of the machine meanwhile "
        f"{os.getloadavg()[1]:.1f}. Versions: {', '.join(versions)}. "
        f"The bundle has {sum(held.values()) / 1e6:.2f} MB: "
        f"{held['libtvm_runtime.so'] / 1e6:.2f} MB are TVM's runtime library, "
        f"{held['conv3dt.pyz'] / 1e6:.2f} MB the wrapper; NumPy alone has {numpy_size / 1e6:.1f} MB.\n"
    )
    print(text)
    if arguments.output is not None:
        before, _, rest = arguments.output.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        arguments.output.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"

if __name__ == "__main__":
    main()
