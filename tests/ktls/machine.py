"""A virtual machine whose kernel can encrypt TLS: Debian's cloud kernel, a Python, zerocopy.

Owns what goes into it and how it is run. The idea to read it by: QEMU boots a kernel and one
archive of files. The archive has two parts: what seldom changes (Python, packages, kernel modules),
kept in a cache directory, and what every run brings (zerocopy, tests, data, the program to run).
Nothing is installed on this machine; `Unavailable` says what it lacks.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.ktls.cpio import Archive, walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

REPOSITORY = Path(__file__).resolve().parents[2]
GUEST = Path(__file__).resolve().parent / "guest"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zerocopy-ktls"

QEMU = "qemu-system-x86_64"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("tls", "aesni-intel", "ghash-clmulni-intel", "gcm", "ctr", "ccm", "chacha-x86_64",
           "poly1305-x86_64", "chacha20poly1305")  # fmt: skip
"""TLS itself, and the ciphers that its `crypto_alloc_aead` asks for, quick ones first."""

PACKAGES = ("zerocopy", "tests")
"""What each run brings of this repository."""

GUEST_PACKAGES = ("trustme", "pytest", "pytest-timeout", "websockets")
"""What the guest's programs need beyond the server's dependencies."""

LEFT_OUT = re.compile(
    r"/(__pycache__/.*\.opt-[12]\.pyc|site-packages|test|tests|idlelib|tkinter|turtledemo|ensurepip"
    r"|lib2to3|config-[^/]*|_test[^/]*\.so|_tkinter[^/]*\.so)$"
)
"""What of the standard library and the packages no program here imports."""

EMULATED = "max,-erms,-fsrm"  # QEMU emulates rep movsb byte by byte; without, copies are words
TCG = ("-accel", "tcg,thread=multi", "-cpu", EMULATED, "-smp", "2")
KVM = ("-accel", "kvm", "-cpu", "max", "-smp", "2")
ICOUNT = ("-accel", "tcg", "-cpu", EMULATED, "-icount", "shift=0,sleep=off")
"""The clock counts instructions, one a nanosecond: the same whatever else the host does."""

MEMORY = "2G"
PREPARE_TIMEOUT_S = 240.0
RUN_TIMEOUT_S = 240.0
KVM_TRIAL_S = 10.0
"""TCG starts a program within 6 s. Nested virtualization may take minutes, or never end."""

KEPT_S = 86_400.0
"""How long an archive stays in the cache that the next one replaces; each has 150 MB."""

VERSION = "1"
"""Of what is kept in the cache; counted up when its making changes."""


class Unavailable(Exception):  # noqa: N818  # no error: a reason to skip
    """This machine cannot run the virtual one; the message says what it lacks."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program in the virtual machine ended."""

    status: int
    output: str
    log: str
    """Standard error, and the kernel's messages."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A kernel and the files that seldom change, ready to run programs."""

    kernel: Path
    base: Path
    python: str
    processor: tuple[str, ...] = TCG

    def run(
        self,
        program: Sequence[str],
        *,
        data: Mapping[str, str] | None = None,
        timeout_s: float = RUN_TIMEOUT_S,
    ) -> Finished:
        """Boot, run the interpreter with these arguments, and end.

        It runs in a directory with `zerocopy`, `tests` and config.toml, and imports from there.
        `data` are more files and directories: where they go, and where they are.

        Raises:
            TimeoutError: it did not end in time.
        """
        with tempfile.TemporaryDirectory(prefix="zerocopy-ktls-") as folder:
            image, result = Path(folder, "image"), Path(folder, "result")
            with image.open("wb") as out:
                with self.base.open("rb") as base:
                    shutil.copyfileobj(base, out)
                _add_run(Archive(out), self.python, program, data or {})
            log = self._boot(image, result, timeout_s)
            output, found, status = result.read_text("utf-8", "replace").rpartition(
                "\nexit status "
            )
            if not found:
                raise AssertionError(f"the virtual machine ended without a status:\n{log}")
            return Finished(int(status), output, log)

    def _boot(self, image: Path, result: Path, timeout_s: float) -> str:
        command = [
            QEMU, "-M", "pc", *self.processor, "-m", MEMORY,
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-serial", "stdio", "-serial", f"file:{result}",
            "-kernel", str(self.kernel), "-initrd", str(image),
            "-append", "console=ttyS0 quiet panic=-1 PYTHONDONTWRITEBYTECODE=",
        ]  # fmt: skip
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            log = (error.stdout or b"").decode("utf-8", "replace")
            raise TimeoutError(f"still running after {timeout_s:.0f} s:\n{log}") from None
        return ended.stdout.decode("utf-8", "replace")


@cache
def machine() -> Machine:
    """Return the machine, prepared on first use.

    Raises:
        Unavailable: QEMU, the kernel, a Python or its packages are not to be had here.
    """
    if os.uname().machine != "x86_64":
        raise Unavailable(f"the kernel is one for x86-64, this is {os.uname().machine}")
    if shutil.which(QEMU) is None:
        raise Unavailable(f"{QEMU} is not installed (Debian: qemu-system-x86)")
    python = find_python()
    kernel, modules = _kernel()
    packages = _packages(python)
    prepared = Machine(kernel, _base(python, modules, packages), python)
    if os.environ.get("KTLS_ICOUNT"):
        return replace(prepared, processor=ICOUNT)
    if os.access("/dev/kvm", os.R_OK | os.W_OK) and _kvm_is_quicker(prepared):
        return replace(prepared, processor=KVM)
    return prepared


def find_python() -> str:
    """Return the real path of the Python that KTLS_PYTHON names, or of the newest that will do.

    Raises:
        Unavailable: there is none.
    """
    needs = "True" if "KTLS_PYTHON" in os.environ else "hasattr(ssl, 'OP_ENABLE_KTLS')"
    question = (
        f"import json, os, pip, ssl, sys; assert {needs};"
        "print(json.dumps([sys.version_info[:3], os.path.realpath(sys.executable)]))"
    )
    answers = (_output(path, "-Ic", question) for path in _interpreters())
    found = [json.loads(answer) for answer in answers if answer is not None]
    if not found:
        raise Unavailable("there is no Python 3.12 or newer with ssl and pip (PATH, pyenv, uv)")
    newest: str = max(found)[1]
    return newest


def _interpreters() -> Iterator[str]:
    if chosen := os.environ.get("KTLS_PYTHON"):
        yield chosen
        return
    yield sys.executable
    names = ("python3.12", "python3.13", "python3.14")
    yield from filter(None, map(shutil.which, names))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv", "versions")
    yield from map(str, pyenv.glob("3.*/bin/python3"))
    if shutil.which("uv"):
        found = (_output("uv", "python", "find", name.removeprefix("python")) for name in names)
        yield from (path.strip() for path in found if path)


def _kernel() -> tuple[Path, list[Path]]:
    """The kernel and its modules, each after those it needs; downloaded once."""
    said = _output("apt-cache", "depends", "--important", KERNEL_PACKAGE) or ""
    package = re.search(r"Depends: (linux-image-[^\s<>]+)", said)
    if package is None:
        raise Unavailable(f"apt offers no {KERNEL_PACKAGE}; `apt-get update` may help")
    folder = CACHE / package[1]
    if not folder.is_dir():
        with _fresh(folder) as fresh:
            command = ["apt-get", "download", "-qq", package[1]]
            _prepare(command, fresh, f"{package[1]} cannot be downloaded")
            (archive,) = fresh.glob("*.deb")
            _prepare(["dpkg-deb", "-x", archive.name, "."], fresh, f"{archive.name} is broken")
            archive.unlink()
    (kernel,) = folder.glob("boot/vmlinuz-*")
    return kernel, _in_order(folder)


def _in_order(folder: Path) -> list[Path]:
    """The modules of `MODULES` and what they depend on; what is built in has no file."""
    files = {
        re.sub(r"\.ko(\.xz)?$", "", path.name).replace("-", "_"): path
        for path in folder.rglob("*.ko*")
    }
    order: list[Path] = []

    def add(name: str) -> None:
        path = files.get(name.replace("-", "_"))
        if path is None or path in order:
            return
        # The section .modinfo of the ELF file: strings, each ended by a zero.
        needed = re.search(rb"\0depends=([^\0]*)\0", module_bytes(path))
        for other in needed[1].decode().split(",") if needed else []:
            add(other)
        order.append(path)

    for name in MODULES:
        add(name)
    if not any(path.name.startswith("tls.ko") for path in order):
        raise Unavailable(f"{folder.name} has no module tls")
    return order


def module_bytes(path: Path) -> bytes:
    """A module as the kernel loads it."""
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def _packages(python: str) -> Path:
    """A directory with what the server and the guest's programs import, for this Python."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    constraints = REPOSITORY / "constraints.txt"
    wanted = [*project["dependencies"], *GUEST_PACKAGES]
    key = _digest(python, *wanted, constraints.read_text("utf-8"))
    folder = CACHE / f"packages-{key}"
    if not folder.is_dir():
        with _fresh(folder) as fresh:
            command = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
            command += ["--target", ".", "--constraint", str(constraints), *wanted]
            _prepare(command, fresh, "the packages cannot be installed")
    return folder


def _base(python: str, modules: Sequence[Path], packages: Path) -> Path:
    """The archive of what seldom changes."""
    init = (GUEST / "init.py").read_bytes()
    key = _digest(python, packages.name, *map(str, modules), init)
    image = CACHE / f"base-{key}.cpio"
    if not image.exists():
        partial = image.with_suffix(f".{os.getpid()}")
        with partial.open("wb") as out:
            archive = Archive(out)
            archive.device("/dev/console", 5, 1)  # or the first process has no standard streams
            archive.file("/init", f"#!{python} -I\n".encode() + init)
            for number, path in enumerate(modules):
                name = f"{number:02d}-{path.name.removesuffix('.xz')}"
                archive.file(f"/modules/{name}", module_bytes(path))
            _add_python(archive, python, packages)
            archive.finish()
        partial.rename(image)
        for other in CACHE.glob("base-*.cpio"):
            if time.time() - other.stat().st_mtime > KEPT_S:
                other.unlink(missing_ok=True)
    return image


def _add_python(archive: Archive, python: str, packages: Path) -> None:
    """The interpreter where it is here, its standard library, the packages, shared libraries."""
    question = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    library = _output(python, "-Ic", question)
    assert library is not None
    library = library.strip()
    archive.copy(python)
    archive.tree(library, library, _is_left_out)
    archive.tree(str(packages), "/packages", _is_left_out)
    programs = [python]
    for directory in (library, str(packages)):
        programs += [path for path in walk(directory, _is_left_out) if ".so" in path]
    said = _output("ldd", *programs) or ""
    for path in sorted(set(re.findall(r"(/\S+) \(0x", said))):
        archive.copy(path)


def _add_run(
    archive: Archive, python: str, program: Sequence[str], data: Mapping[str, str]
) -> None:
    """What this run brings."""
    # Compiled here: an emulated processor takes longer than a worker may take to start.
    _output(python, "-m", "compileall", "-q", *(str(REPOSITORY / name) for name in PACKAGES))
    for name in PACKAGES:
        archive.tree(str(REPOSITORY / name), f"/work/{name}", lambda _: False)
    for name in ("config.toml", "pyproject.toml"):
        archive.copy(str(REPOSITORY / name), f"/work/{name}")
    for inside, path in data.items():
        if os.path.isdir(path):
            archive.tree(path, inside, lambda _: False)
        else:
            archive.copy(path, inside)
    archive.file("/program.json", json.dumps(list(program)).encode())
    archive.finish()


def _is_left_out(path: str) -> bool:
    return LEFT_OUT.search(path) is not None


def _kvm_is_quicker(prepared: Machine) -> bool:
    """Whether the hardware's virtualization starts a program in time; asked once."""
    verdict = CACHE / f"kvm-{_digest(prepared.kernel.name, os.uname().release)}"
    if not verdict.exists():
        try:
            is_quick = (
                replace(prepared, processor=KVM).run(["-c", "pass"], timeout_s=KVM_TRIAL_S).status
                == 0
            )
        except (TimeoutError, AssertionError, OSError):
            is_quick = False
        verdict.write_text("yes" if is_quick else "no")
    return verdict.read_text() == "yes"


class _fresh:  # noqa: N801  # used as a function
    """A directory that gets its name when all of it is there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partial = folder.with_name(f"{folder.name}.{os.getpid()}")

    def __enter__(self) -> Path:
        self._partial.mkdir(parents=True)
        return self._partial

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and not self._folder.exists():
            self._partial.rename(self._folder)
        shutil.rmtree(self._partial, ignore_errors=True)


def _prepare(command: Sequence[str], folder: Path, why: str) -> None:
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, timeout=PREPARE_TIMEOUT_S
        )
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Unavailable(f"{why}: {said[-1] if said else error.returncode}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{why}: {error}") from None


def _output(*command: str) -> str | None:
    """What a command prints, None where it fails or is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _digest(*parts: str | bytes) -> str:
    whole = hashlib.sha256(VERSION.encode())
    for part in parts:
        whole.update(part.encode() if isinstance(part, str) else part)
        whole.update(b"\0")
    return whole.hexdigest()[:16]
