"""Which part of the package may import which: core <- runtime <- forms, core <- compiler, measure <- cli."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import tvm_conv3dt

PACKAGE = Path(tvm_conv3dt.__file__).parent
PARTS = ("runtime", "compiler", "measure", "forms", "cli")

# What each part may import of the others; core is every module at the top level.
ALLOWED = {
    "core": {"core"},
    "runtime": {"core", "runtime"},
    "compiler": {"core", "compiler"},
    "measure": {"core", "measure"},
    "forms": {"core", "runtime", "forms"},
    "cli": {"core", "runtime", "compiler", "measure", "cli"},
}

# The public entry points join the parts, inside functions, when they are called.
JOINTS = {"__init__.py", "__main__.py", "functional.py"}

# Packages that an edge device does not have.
NOT_ON_THE_EDGE = {"tvm", "click", "rich", "matplotlib", "cpuinfo", "xgboost", "filelock"}


def part_of(module: str) -> str:
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 and pieces[1] in PARTS else "core"


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(part: str) -> list[Path]:
    if part == "core":
        return [path for path in sorted(PACKAGE.glob("*.py")) if path.name not in JOINTS]
    return sorted((PACKAGE / part).rglob("*.py"))


@pytest.mark.parametrize("part", ALLOWED)
def test_part_imports_only_what_it_may(part):
    for path in sources(part):
        for module in imported_modules(path):
            if module.split(".")[0] == "tvm_conv3dt":
                assert part_of(module) in ALLOWED[part], f"{path.name} imports {module}"


# TVM as one of the frameworks to compare with: like theirs, its module is imported in a process of its own only.
TVM_AS_A_PEER = {PACKAGE / "measure" / "peers" / name for name in ("tvm.py", "tvm_search.py")}


@pytest.mark.parametrize("part", ["core", "runtime", "measure", "forms"])
def test_only_the_compiler_and_the_command_line_import_tvm(part):
    for path in sources(part):
        for module in imported_modules(path):
            if path not in TVM_AS_A_PEER:
                assert module.split(".")[0] != "tvm", f"{path.name} imports {module}"


@pytest.mark.parametrize("part", PARTS)
def test_nothing_but_itself_imports_tvm_as_a_peer(part):
    names = {f"tvm_conv3dt.measure.peers.{path.stem}" for path in TVM_AS_A_PEER}
    assert all(path.is_file() for path in TVM_AS_A_PEER)
    for path in sources(part):
        if path not in TVM_AS_A_PEER:
            for module in imported_modules(path):
                assert not any(f"{module}.".startswith(f"{name}.") for name in names), path.name


@pytest.mark.parametrize("part", ["core", "runtime", "compiler", "forms", "cli"])
def test_no_framework_is_imported_to_take_its_tensors(part):
    for path in sources(part):
        for module in imported_modules(path):
            assert module.split(".")[0] not in {"torch", "tensorflow", "jax"}, path.name


def loaded_by(statement: str) -> set[str]:
    """Top-level modules that a fresh process holds after a statement."""
    program = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import tvm_conv3dt.runtime", "import tvm_conv3dt; tvm_conv3dt.load"]
)
def test_runtime_needs_nothing_that_an_edge_device_lacks(statement):
    assert not loaded_by(statement) & NOT_ON_THE_EDGE


def test_importing_the_package_is_light():
    heavy = {*NOT_ON_THE_EDGE, "numpy", "tvm_ffi", "json", "torch", "onnx"}
    assert not loaded_by("import tvm_conv3dt") & heavy


def test_forms_need_no_framework():
    # tvm-ffi imports PyTorch where it is installed.
    more = loaded_by("import tvm_conv3dt.forms") - loaded_by("import tvm_ffi, numpy")
    assert not more & {*NOT_ON_THE_EDGE, "torch", "onnx", "tensorflow"}


def test_command_line_starts_without_the_compiler():
    heavy = {"tvm", "tvm_ffi", "xgboost", "matplotlib"}
    assert not loaded_by("import tvm_conv3dt.cli.app") & heavy
