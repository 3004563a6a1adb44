"""The real entry point, as a process."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import tvm_conv3dt

SCRIPT = Path(sysconfig.get_path("scripts")) / "tvm-conv3dt"


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "tvm_conv3dt", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def test_version():
    assert run("--version").stdout == f"tvm-conv3dt, version {tvm_conv3dt.__version__}\n"


@pytest.mark.skipif(not SCRIPT.exists(), reason="the package is not installed here")
def test_installed_script_is_the_same_program():
    done = subprocess.run([SCRIPT, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run("--version").stdout


def test_error_leaves_stdout_empty():
    done = run("show", "frobnicate")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: failed to find workloads with 'frobnicate'")


def test_closed_pipe_is_no_traceback():
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "tvm_conv3dt", "show", "suite"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_its_extra_it_says_what_to_install(missing):
    program = f"""
import importlib.util as util, sys
find_spec = util.find_spec
util.find_spec = lambda name, *rest: None if name == {missing!r} else find_spec(name, *rest)
from tvm_conv3dt.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: failed to start tvm-conv3dt without {missing}")
    assert 'pip install "tvm-conv3dt[cli]"' in done.stderr
