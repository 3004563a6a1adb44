"""Packs what a session on a GPU machine without network needs, in parts that are small enough to carry.

To be run where there is a network, by the environment of ./scripts/test.sh:

    .venv/bin/python scripts/gpu_session/pack.py -o gpu-pack

makes a folder of the packages as wheels (``parts/``, their sums in ``SHA256SUMS``) and of the scripts that work with
them, of which ``session.py`` is started. Versions are those of scripts/constraints.txt.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from email.parser import BytesParser
from pathlib import Path

import click
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

REPOSITORY = Path(__file__).resolve().parents[2]
PART_BYTES = 60_000_000
SCRIPTS = ("session.py", "verbs.py", "steps.py", "environment.py")
_CUDA_RUNTIME = "nvidia-cuda-runtime"  # every bundle needs it, whatever compiles
_BLOCK = 1 << 20
_PLATFORM = re.compile(r"manylinux_2_(\d+)_(\w+)")
# Names that manylinux's tags had before they told the version of glibc.
_FORMER = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}


class Target:
    """The machine that the wheels are for: a Python (``"3.12"``) on a platform (``"manylinux_2_28_x86_64"``)."""

    def __init__(self, python: str, platform_tag: str) -> None:
        match = _PLATFORM.fullmatch(platform_tag)
        if match is None:
            raise click.BadParameter(f"{platform_tag} is not like manylinux_2_28_x86_64")
        glibc, self.machine = int(match[1]), match[2]
        self.python = python
        self.platforms = [f"linux_{self.machine}"]
        for minor in range(glibc, 4, -1):
            self.platforms.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _FORMER:
                self.platforms.append(f"{_FORMER[minor]}_{self.machine}")

    def wants(self, requirement: Requirement, extras: Iterable[str] = ()) -> bool:
        """Whether a requirement counts there, asked for with these extras."""
        marker = requirement.marker
        full = self.python if self.python.count(".") > 1 else f"{self.python}.99"
        environment = {
            **{key: str(value) for key, value in default_environment().items()},
            "python_version": ".".join(self.python.split(".")[:2]),
            "python_full_version": full,
            "implementation_version": full,
            "platform_machine": self.machine,
        }
        return marker is None or any(
            marker.evaluate({**environment, "extra": extra}) for extra in ("", *extras)
        )


@click.command()
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path), required=True, metavar="DIR"
)
@click.option(
    "--python-version",
    "python",
    default=f"{sys.version_info[0]}.{sys.version_info[1]}",
    show_default=True,
    metavar="X.Y",
    help="The GPU machine's Python.",
)
@click.option(
    "--platform",
    "platform_tag",
    default=f"manylinux_2_28_{platform.machine()}",
    show_default=True,
    metavar="TAG",
    help="The GPU machine's platform: its architecture, and the newest glibc that wheels may need.",
)
@click.option(
    "--without-nvrtc",
    is_flag=True,
    help="Leave the CUDA compiler out, where the GPU machine has nvcc: 100 MB less.",
)
@click.option(
    "--add",
    "added",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="WHEEL",
    help="Bring this wheel along, and install it last and without its dependencies, as PyTorch's to compare with; "
    "may be repeated.",
)
@click.option(
    "--part-bytes",
    type=click.IntRange(min=1),
    default=PART_BYTES,
    show_default=True,
    help="The most that a part has.",
)
def main(
    folder: Path,
    python: str,
    platform_tag: str,
    without_nvrtc: bool,
    added: tuple[Path, ...],
    part_bytes: int,
) -> None:
    """Pack wheels, tests and the session's script for a GPU machine without network."""
    target = Target(python, platform_tag)
    if folder.exists() and any(folder.iterdir()):
        raise click.BadParameter(f"{folder} is not empty", param_hint="--output")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        content = Path(name) / "content"
        wheels = content / "wheels"
        wheels.mkdir(parents=True)
        say("building the package")
        pip("wheel", "--no-deps", "-w", str(wheels), str(REPOSITORY))
        extras = "compiler,plot" if without_nvrtc else "compiler,cuda,plot"
        roots = [f"tvm-conv3dt[{extras}]", _CUDA_RUNTIME, "pytest"]
        pins = collect([Requirement(root) for root in roots], target, wheels)
        (content / "pins.txt").write_text("".join(f"{pin}\n" for pin in pins))
        for wheel in added:
            (content / "added").mkdir(exist_ok=True)
            shutil.copy2(wheel, content / "added")
        (content / "target.txt").write_text(f"{python} {target.machine}\n")
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(REPOSITORY / "tests", content / "tests", ignore=ignored)
        shutil.copy2(REPOSITORY / "pyproject.toml", content)
        say("splitting")
        names = split(content, folder / "parts", part_bytes)
    sums = "".join(f"{digest}  parts/{name}\n" for name, digest in names)
    (folder / "SHA256SUMS").write_text(sums)
    for script in SCRIPTS:
        shutil.copy2(Path(__file__).with_name(script), folder)
    size = sum(each.stat().st_size for each in (folder / "parts").iterdir())
    say(f"wrote {folder}: {size / 1e6:.0f} MB in {len(names)} parts")
    say(
        f"on the GPU machine, with Python {python}: python3 session.py --time-limit 3600 --work work"
    )


def collect(roots: list[Requirement], target: Target, wheels: Path) -> list[str]:
    """Download the wheels of all that `roots` require there, and return them as ``name==version``.

    pip reads the markers of requirements for the Python that runs it, and not for the one it downloads for; so it gets
    every package by its name and version from here.
    """
    versions = dict(_constraints(target))
    pins: dict[str, str] = {
        "tvm-conv3dt": next(wheels.glob("tvm_conv3dt-*.whl")).name.split("-")[1]
    }
    done: set[tuple[str, frozenset[str]]] = set()
    waiting = [each for each in roots if target.wants(each)]
    while waiting:
        wanted = {canonicalize_name(each.name) for each in waiting} - set(pins)
        if missing := sorted(wanted - set(versions)):
            raise click.ClickException(
                f"failed to pack {', '.join(missing)}: scripts/constraints.txt has no version of them for "
                f"Python {target.python} on {target.machine}; renew it by the command in its head"
            )
        new: dict[str, str] = {name: versions[name] for name in wanted}
        download([f"{name}=={version}" for name, version in sorted(new.items())], target, wheels)
        pins.update(new)
        found: list[Requirement] = []
        for each in waiting:
            asked = canonicalize_name(each.name), frozenset(each.extras)
            if asked not in done:
                done.add(asked)
                found += [
                    further
                    for further in _requirements(_wheel_of(wheels, asked[0]))
                    if target.wants(further, each.extras)
                ]
        waiting = found
    return [f"{name}=={version}" for name, version in sorted(pins.items())]


def download(pins: list[str], target: Target, wheels: Path) -> None:
    """Download wheels of packages for the target, without what they require."""
    if not pins:
        return
    say(f"downloading {' '.join(pins)}")
    platforms = [word for tag in target.platforms for word in ("--platform", tag)]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", target.python, *platforms]
    pip("download", *options, "-d", str(wheels), *pins)


def split(content: Path, parts: Path, part_bytes: int) -> list[tuple[str, str]]:
    """Pack a folder as one tar in parts; return the name and SHA-256 of each, in their order."""
    whole = content.parent / "pack.tar"
    with tarfile.open(whole, "w") as archive:
        archive.add(content, ".")
    parts.mkdir()
    names: list[tuple[str, str]] = []
    with whole.open("rb") as stream:
        while block := stream.read(min(_BLOCK, part_bytes)):
            name = f"pack.tar.{len(names):03d}"
            digest, left = hashlib.sha256(), part_bytes
            with (parts / name).open("wb") as part:
                while block:
                    part.write(block)
                    digest.update(block)
                    left -= len(block)
                    block = stream.read(min(_BLOCK, left))
            names.append((name, digest.hexdigest()))
    whole.unlink()
    return names


def pip(*arguments: str) -> None:
    """Run pip, or end with its message."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*command, *arguments], check=False)
    if done.returncode:
        raise click.ClickException(
            f"failed to pack with pip {arguments[0]}: its message is above; is a package index reachable?"
        )


def say(text: str) -> None:
    """Tell on stderr how far it is."""
    click.echo(f"==> {text}", err=True)


def _constraints(target: Target) -> Iterator[tuple[str, str]]:
    for line in (REPOSITORY / "scripts" / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            if target.wants(requirement):
                (version,) = requirement.specifier
                yield canonicalize_name(requirement.name), version.version


def _wheel_of(wheels: Path, name: str) -> Path:
    return next(each for each in wheels.glob("*.whl") if parse_wheel_filename(each.name)[0] == name)


def _requirements(wheel: Path) -> list[Requirement]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (
            each
            for each in archive.namelist()
            if each.endswith(".dist-info/METADATA") and each.count("/") == 1
        )
        metadata = BytesParser().parsebytes(archive.read(name))
    return [Requirement(each) for each in metadata.get_all("Requires-Dist") or ()]


if __name__ == "__main__":
    main()
