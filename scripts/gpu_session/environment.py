"""The environment that a session works in: the packages that were brought along, and PyTorch where there is one."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from steps import Steps

__all__ = ["Unusable", "environment_in", "install", "share_pytorch", "succeeds", "unpack"]

HERE = Path(__file__).resolve().parent
_LIMIT = 1800.0  # seconds to install


class Unusable(Exception):
    """Without this no step that follows makes sense."""


def unpack(steps: Steps, content: Path) -> None:
    """Check the parts' sums, and unpack them where that was not done before."""
    with steps.step("unpack"):
        try:
            sums = (HERE / "SHA256SUMS").read_text()
        except OSError as error:
            rule = f"{error}; copy all that pack.py made, or take --no-install in a checkout"
            raise Unusable(rule) from error
        stamp = content / "unpacked.txt"
        if stamp.is_file() and stamp.read_text() == sums:
            return
        shutil.rmtree(content, ignore_errors=True)
        parts = []
        for line in sums.splitlines():
            wanted, name = line.split(maxsplit=1)
            parts.append(HERE / name)
            if not parts[-1].is_file():
                raise Unusable(f"part {name} is missing; copy all that pack.py made")
            if _sum(parts[-1]) != wanted:
                raise Unusable(f"part {name} is damaged: its SHA-256 is another; copy it again")
        whole = content.with_suffix(".tar")
        with whole.open("wb") as joined:
            for part in parts:
                with part.open("rb") as stream:
                    shutil.copyfileobj(stream, joined)
        with tarfile.open(whole) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(content, filter="data")
            else:
                archive.extractall(content)
        whole.unlink()
        stamp.write_text(sums)


def install(steps: Steps, base: str, content: Path, venv: Path) -> Path:
    """Make a virtual environment of the wheels alone, where there is none of them; return its Python."""
    python = venv / "bin" / "python"
    key = (content / "unpacked.txt").read_text()
    if (venv / "installed.txt").is_file() and (venv / "installed.txt").read_text() == key:
        steps.say("using the environment that is there")
        return python
    version, machine = (content / "target.txt").read_text().split()
    program = (
        "import platform, sys; print(*sys.version_info[:2], sep='.'); print(platform.machine())"
    )
    found = _output([base, "-c", program]).split()
    if found != [version, machine]:
        is_not = " on ".join(found) or "none that runs"
        rule = f"the wheels are for Python {version} on {machine}, and {base} is {is_not}"
        raise Unusable(f"{rule}; name one by --python, or pack for this one by --python-version")
    shutil.rmtree(venv, ignore_errors=True)
    limit = _LIMIT
    if not steps.run("make environment", [base, "-m", "venv", venv], limit):
        raise Unusable(f"{base} makes no virtual environment (Debian and Ubuntu: python3-venv)")
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "--no-cache-dir",
    ]
    options: list[str | Path] = [
        "--no-index",
        "--find-links",
        content / "wheels",
        "-r",
        content / "pins.txt",
    ]
    if not steps.run("install", [*pip, "install", *options], limit):
        raise Unusable("the wheels cannot be installed: pip's message is above")
    if added := sorted((content / "added").glob("*.whl")):
        steps.run(
            "install added wheels", [*pip, "install", "--no-index", "--no-deps", *added], limit
        )
    (venv / "installed.txt").write_text(key)
    return python


def share_pytorch(steps: Steps, other: str, venv: Path) -> None:
    """Let the session see the PyTorch of another Python, behind all that it has itself."""
    python = venv / "bin" / "python"
    if succeeds([python, "-c", "import torch"]):
        return
    version = "import sys; print(*sys.version_info[:2], sep='.')"
    folders = "print(*(p for p in sys.path if p.endswith('-packages')), sep='\\n')"
    mine = _output([python, "-c", version])
    theirs, *found = _output([other, "-c", f"{version}; import torch; {folders}"]).splitlines() or [
        ""
    ]
    if not theirs:
        steps.say(f"{other} has no PyTorch")
    elif theirs != mine:
        steps.say(f"the PyTorch of {other} is for Python {theirs}, and not for {mine}")
    else:
        (site,) = (venv / "lib").glob("python*/site-packages")
        (site / "pytorch.pth").write_text("".join(f"{folder}\n" for folder in found))
        steps.say(f"PyTorch is that of {other}")


def environment_in(work: Path) -> dict[str, str]:
    """Return the environment of all steps: what they keep lies in `work`, since the home may be read-only."""
    # Only the wheels that were brought along count, whatever pip's configuration says.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    cache = work / "cache"
    return {
        **environment,
        "PIP_CONFIG_FILE": os.devnull,
        "XDG_CACHE_HOME": str(cache),
        "XDG_CONFIG_HOME": str(work / "config"),
        "TVM_CONV3DT_CACHE": str(cache / "tvm_conv3dt"),
        "MPLCONFIGDIR": str(cache / "matplotlib"),
        "CUDA_CACHE_PATH": str(cache / "cuda"),
        "ZIG_GLOBAL_CACHE_DIR": str(cache / "zig"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "200",
    }


def _output(command: Sequence[str | Path]) -> str:
    """Return what a command says, nothing where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def succeeds(command: Sequence[str | Path]) -> bool:
    """Whether a command can be started and ends with 0."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _sum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
