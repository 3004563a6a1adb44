"""Which program links, and what is said when none does?"""

import importlib.util
import shlex
import shutil
import sys

import pytest

pytest.importorskip("tvm")

from tvm_conv3dt import cpu
from tvm_conv3dt import device as catalogue
from tvm_conv3dt.compiler.linker import link, linker_command
from tvm_conv3dt.errors import CompilerMissingError

NATIVE = next(
    catalogue.get(n)
    for n in ("x86-64-v2", "aarch64")
    if catalogue.get(n).arch == cpu.architecture()
)
FOREIGN = next(
    catalogue.get(n)
    for n in ("x86-64-v2", "aarch64")
    if catalogue.get(n).arch != cpu.architecture()
)


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)


@pytest.fixture
def no_ziglang(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ziglang" else find(name)
    )


def zig(device):
    return [
        *(sys.executable, "-m", "ziglang", "cc"),
        *("-target", f"{device.arch}-linux-gnu.2.17"),
    ]


def test_systems_compiler_is_taken(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")
    assert linker_command(NATIVE) == ["/somewhere/cc"]


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_compiler_of_another_name_is_found(name, monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda wanted: f"/x/{name}" if wanted == name else None)
    assert linker_command(NATIVE) == [f"/x/{name}"]


def test_ziglang_is_taken_where_there_is_no_compiler(no_compiler):
    pytest.importorskip("ziglang")
    assert linker_command(NATIVE) == zig(NATIVE)


def test_ziglang_is_taken_for_another_architecture(monkeypatch):
    pytest.importorskip("ziglang")
    monkeypatch.setenv("CC", "gcc")
    assert linker_command(FOREIGN) == zig(FOREIGN)


def test_ziglang_is_told_its_own_name_of_armv7():
    pytest.importorskip("ziglang")
    assert linker_command(catalogue.get("armv7"))[-1] == "arm-linux-gnueabihf.2.17"


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (FOREIGN, f"{FOREIGN.arch}-linux-gnu-gcc"),
        (catalogue.get("armv7"), "arm-linux-gnueabihf-gcc"),
    ],
    ids=["64 bits", "armv7"],
)
def test_cross_compiler_is_taken_where_there_is_no_ziglang(device, name, no_ziglang, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda wanted: f"/x/{name}" if wanted == name else None)
    assert linker_command(device) == [f"/x/{name}"]


def test_cc_is_followed_with_its_options(monkeypatch):
    monkeypatch.setenv("CC", "ccache 'my cc' -m64")
    assert linker_command(NATIVE) == ["ccache", "my cc", "-m64"]


def test_blank_cc_means_none(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")
    monkeypatch.setenv("CC", " ")
    assert linker_command(NATIVE) == ["/somewhere/cc"]


def test_cc_that_is_no_command_is_refused(monkeypatch):
    monkeypatch.setenv("CC", "gcc 'unended")
    with pytest.raises(CompilerMissingError, match=r"CC with gcc 'unended: No closing quotation"):
        linker_command(NATIVE)


def test_nothing_that_links_is_an_error(no_compiler, no_ziglang):
    with pytest.raises(
        CompilerMissingError, match=r"neither a C compiler .* nor the package ziglang"
    ):
        linker_command(NATIVE)


def test_missing_ziglang_is_an_error_for_another_architecture(no_compiler, no_ziglang):
    with pytest.raises(CompilerMissingError, match=f"a library with {FOREIGN.arch}"):
        linker_command(FOREIGN)


def test_failing_linker_is_reported_with_its_own_message(monkeypatch, tmp_path):
    program = "import sys; sys.exit('my own words')"
    monkeypatch.setenv("CC", shlex.join([sys.executable, "-c", program]))
    with pytest.raises(CompilerMissingError, match="it ended with 1: my own words; set CC to"):
        link([], tmp_path / "out.so", NATIVE)


def test_linker_that_cannot_be_started_is_reported(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "absent"))
    with pytest.raises(CompilerMissingError, match=r"failed to run the linker with .*absent"):
        link([], tmp_path / "out.so", NATIVE)


def test_damaged_object_is_reported(tmp_path):
    damaged = tmp_path / "damaged.o"
    damaged.write_bytes(b"no object")
    with pytest.raises(CompilerMissingError, match="failed to link a library with"):
        link([str(damaged)], tmp_path / "out.so", NATIVE)
