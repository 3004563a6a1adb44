"""The wheel: that it builds, what it holds, and that it works where nothing else is installed."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow

SMALL_SET = """
schema = 1
[[workload]]
name = "small"
input = [1, 3, 4, 5, 6]
filters = [3, 3, 3, 7, 6]
output_shape = [1, 6, 8, 9, 7]
strides = [2, 2, 2]
padding = "SAME"
data_format = "NDHWC"
dtype = "float32"
"""


def run(*command, **options):
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def edge_python(wheel, tmp_path_factory):
    """An environment with the wheel and its base dependencies only."""
    folder = tmp_path_factory.mktemp("edge") / "venv"
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    constraints = ROOT / "scripts" / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "--no-input", "-c", constraints, wheel)
    return python


def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return archive.read(name).decode()


def test_wheel_holds_every_module_and_data_file(wheel):
    package = ROOT / "tvm_conv3dt"
    wanted = {
        str(path.relative_to(ROOT))
        for pattern in ("*.py", "*.toml", "py.typed")
        for path in package.rglob(pattern)
    }
    assert wanted <= set(names(wheel))


@pytest.mark.parametrize("folder", ["schedules", "tuning_logs"])
def test_wheel_holds_schedules_and_logs_as_package_data(wheel, folder):
    wanted = {
        f"tvm_conv3dt/_data/{path.relative_to(ROOT)}"
        for path in (ROOT / folder).rglob("*.json")
        if "/." not in str(path.relative_to(ROOT))
    }
    assert wanted <= set(names(wheel))


def test_wheel_holds_nothing_else(wheel):
    others = [
        name
        for name in names(wheel)
        if not name.startswith("tvm_conv3dt/") and ".dist-info/" not in name
    ]
    assert others == []
    assert not [name for name in names(wheel) if name.endswith((".so", ".pyc"))]


def test_wheel_carries_its_licence(wheel):
    licences = {Path(name).name for name in names(wheel) if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


def test_base_dependencies_are_numpy_and_tvm_ffi(wheel):
    required = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata(wheel), re.MULTILINE)
    assert sorted(required) == ["apache-tvm-ffi", "numpy"]


def test_wheel_works_in_an_empty_folder(edge_python, tmp_path):
    program = (
        "import tvm_conv3dt, tvm_conv3dt.runtime, tvm_conv3dt.measure.timing, tvm_conv3dt.paths\n"
        "assert tvm_conv3dt.paths.packaged_schedules().is_dir()\n"
        "print(tvm_conv3dt.__version__)"
    )
    assert run(edge_python, "-c", program, cwd=tmp_path).strip() == "0.1.0"


def test_bundle_runs_with_the_base_dependencies_only(edge_python, tmp_path):
    pytest.importorskip("tvm")
    set_file = tmp_path / "small.toml"
    set_file.write_text(SMALL_SET)
    build = ("build", "--workloads", set_file, "-o", tmp_path / "bundle", "--allow-untuned")
    run(sys.executable, "-m", "tvm_conv3dt", *build, cwd=ROOT)
    program = """
import importlib.util, tvm_conv3dt
from tvm_conv3dt.measure.verify import verify
assert not importlib.util.find_spec("tvm")
bundle = tvm_conv3dt.load("bundle")
def kernel(x, filters, bias, out):
    bundle.operator("small", filters, bias)(x, out=out)
print(verify(bundle.workloads["small"], kernel).status)
"""
    assert run(edge_python, "-c", program, cwd=tmp_path).strip() == "PASSED"


def test_command_without_its_extra_says_what_to_install(edge_python, tmp_path):
    done = subprocess.run(
        [edge_python.parent / "tvm-conv3dt", "device"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 3
    assert 'pip install "tvm-conv3dt[cli]"' in done.stderr
    assert "Traceback" not in done.stderr
