"""A folder with a whole aarch64 Python, and the emulator that runs it: made of Debian's packages and PyPI's wheels.

It takes neither root's rights nor anything of this system's package manager: apt works on lists, a cache and a status of its
own, and packages are unpacked, not installed. No program that this Python starts would run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from filelock import FileLock

__all__ = ["Root", "Unavailable", "prepare"]

_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
_EMULATORS = {"emulator": "qemu-aarch64-static", "emulator-armv7": "qemu-arm-static"}
_WHEELS = ("numpy", "typing_extensions", "ml_dtypes")
_PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux2014")
_SECONDS = 600


class Unavailable(Exception):
    """Why there can be no such folder here."""


@dataclass(frozen=True)
class Root:
    """Where it lies.

    Attributes
    ----------
    folder : Path
        What programs for aarch64 see as the system.
    """

    folder: Path

    @property
    def site(self) -> Path:
        """The folder that Python's packages are unpacked to."""
        return self.folder / "site"

    @property
    def python(self) -> list[str]:
        """The command that starts Python."""
        return self.emulated(_python(self.folder))

    def emulated(self, program: Path) -> list[str]:
        """The command that starts a program for aarch64."""
        return [str(self.folder / "emulator"), "-L", str(self.folder), str(program)]

    def emulated_armv7(self, program: Path) -> list[str]:
        """The command that starts a program for armv7, which finds a C library and nothing else."""
        system = self.folder / "armv7"
        return [str(self.folder / "emulator-armv7"), "-L", str(system), str(program)]


def prepare(cache: Path) -> Root:
    """Return the folder, made anew where `cache` does not hold it.

    Raises
    ------
    Unavailable
        If this system is not Debian, or what is needed cannot be downloaded.
    """
    release = _release()
    wanted = [*_WHEELS, f"apache-tvm-ffi=={metadata.version('apache-tvm-ffi')}"]
    # This file says how it is made: what is made in another way has another name.
    key = repr((release, wanted)).encode() + Path(__file__).read_bytes()
    folder = cache / "aarch64-root" / hashlib.sha256(key).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
                made = Path(temporary) / "root"
                made.mkdir()
                _add_system(made, Path(temporary), release)
                _add_wheels(made, Path(temporary), wanted)
                made.rename(folder)
    return Root(folder)


def _release() -> str:
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise Unavailable(f"there is no {program} here")
    lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    if facts.get("ID") != "debian" or "VERSION_CODENAME" not in facts:
        raise Unavailable("this system is not a release of Debian")
    return facts["VERSION_CODENAME"]


def _add_system(root: Path, work: Path, release: str) -> None:
    """Unpack Python and the libraries that it needs, armv7's C library, and the emulators beside them."""
    foreign = _Apt(work / "arm64", release, "arm64")
    for package in foreign.download(*_PACKAGES):
        _run("dpkg", "-x", package, root)
    for package in _Apt(work / "armhf", release, "armhf").download("libc6"):
        _run("dpkg", "-x", package, root / "armv7")
    for folder in (root, root / "armv7"):
        if not (folder / "lib").exists():  # of releases that have everything below /usr
            (folder / "lib").symlink_to("usr/lib")
    native = _Apt(work / "native", release)
    for package in native.download("qemu-user-static", alone=True):
        _run("dpkg", "-x", package, work / "unpacked")
    for name, program in _EMULATORS.items():
        shutil.copy2(work / "unpacked" / "usr/bin" / program, root / name)


def _add_wheels(root: Path, work: Path, wanted: list[str]) -> None:
    version = _python(root).name.removeprefix("python")
    platforms = [word for each in _PLATFORMS for word in ("--platform", f"{each}_aarch64")]
    _run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"),
        *("--disable-pip-version-check", "--only-binary", ":all:", *platforms),
        *("--python-version", version, "--dest", work / "wheels", *wanted),
    )
    for wheel in (work / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root / "site")


def _python(root: Path) -> Path:
    return next(path for path in (root / "usr/bin").glob("python3.*") if path.name[8:].isdigit())


class _Apt:
    """Debian's package manager, which knows of no package that is installed, and of one architecture."""

    def __init__(self, folder: Path, release: str, architecture: str = "") -> None:
        self.folder = folder
        for each in ("state/lists/partial", "cache/archives/partial", "debs/partial"):
            (folder / each).mkdir(parents=True)
        (folder / "status").touch()
        signed = next(Path("/usr/share/keyrings").glob("debian-archive-keyring.*"), None)
        options = "" if signed is None else f"[signed-by={signed}] "
        sources = folder / "sources.list"
        sources.write_text(f"deb {options}{_mirror(release)} {release} main\n")
        # Only how the system reaches the network: its hooks would clear its own cache.
        lines = [line for line in _run("apt-config", "dump", "Acquire").splitlines() if line]
        lines += [
            'Dir::Etc::main "/dev/null";',
            'Dir::Etc::parts "/dev/null";',
            'Dir::Etc::sourceparts "/dev/null";',
            f'Dir::Etc::sourcelist "{sources}";',
            f'Dir::State "{folder}/state";',
            f'Dir::State::status "{folder}/status";',
            f'Dir::Cache "{folder}/cache";',
            f'Dir::Cache::archives "{folder}/debs/";',
            'APT::Install-Recommends "false";',
            'Debug::NoLocking "true";',
            'APT::Update::Error-Mode "any";',
            *([] if os.geteuid() else ['APT::Sandbox::User "root";']),
        ]
        if architecture:
            lines += [
                f'APT::Architecture "{architecture}";',
                f'APT::Architectures {{ "{architecture}"; }};',
            ]
        self.environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
        (folder / "apt.conf").write_text("\n".join(lines) + "\n")
        self._get("update")

    def download(self, *packages: str, alone: bool = False) -> list[Path]:
        """Download packages, with all that they need where that is not `alone`, in no order."""
        if alone:
            self._get("download", *packages)
            return list(self.folder.glob("*.deb"))
        self._get("install", "--yes", "--download-only", *packages)
        return list((self.folder / "debs").glob("*.deb"))

    def _get(self, *words: str) -> None:
        _run("apt-get", "--quiet", *words, cwd=self.folder, env=self.environment)


def _mirror(release: str) -> str:
    """Where this system has its own packages from."""
    targets = _run("apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)")
    for target in targets.splitlines():
        if target.startswith(f"{release} main "):
            return target.split()[2]
    raise Unavailable("no source of this system's own packages is set up")


def _run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{words[0]} failed: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise Unavailable(f"{' '.join(words[:4])} failed: {last}")
    return done.stdout
