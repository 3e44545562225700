"""What a machine has for `prepare`: Pythons with a torch, an NVIDIA driver, a package index.

The torches compute nothing: each works, or fails in a named way, and notes in
the home folder that it was loaded.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.doubles.machines import USER, Machine

T4 = "Tesla T4, 580.95.05, 7.5, 15360"
_USER_ID = 2001
_TORCH = """
import os
__version__, FAULT = {version!r}, {fault!r}
float32 = "float32"
with open(os.path.expanduser("~/loaded"), "a") as file:
    file.write(__file__ + "\\n")

class cuda:
    @staticmethod
    def is_available():
        return True

class Tensor:
    def remainder(self, number):
        return self
    reshape = lambda self, *shape: self
    def to(self, device):
        if FAULT and device == "cuda":
            raise RuntimeError(FAULT)
        return self
    cpu = lambda self: self

def arange(*values, dtype):
    return Tensor()

def mm(left, right):
    return left

def equal(left, right):
    return True
"""


def put(machine: Machine, path: str, text: str, mode: int = 0o755) -> Path:
    """Put a file on the machine; below the user's home it is the user's."""
    target = machine.root / path.lstrip("/")
    _make_folder(machine, target.parent)
    target.unlink(missing_ok=True)
    target.write_text(text)
    target.chmod(mode)
    _give_to_user(machine, target)
    return target


def take_away(machine: Machine, *patterns: str) -> None:
    """Take files and folders off the machine; those of this one stay."""
    for pattern in patterns:
        for path in machine.root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _make_folder(machine: Machine, folder: Path) -> None:
    if not folder.exists():
        _make_folder(machine, folder.parent)
        folder.mkdir()
        _give_to_user(machine, folder)


def _give_to_user(machine: Machine, path: Path) -> None:
    if path.is_relative_to(machine.home):
        os.chown(path, _USER_ID, _USER_ID)


def gpu(machine: Machine, row: str = T4) -> None:
    """Give the machine an NVIDIA GPU with a driver: name, driver, compute capability, memory."""
    put(machine, "/usr/local/bin/nvidia-smi", f"#!/bin/sh\necho '{row}'\n")


def python_name() -> str:
    """The system's own Python, such as `python3.11`."""
    code = "import sys; print('python%d.%d' % sys.version_info[:2])"
    return subprocess.check_output(["/usr/bin/python3", "-c", code], encoding="utf-8").strip()


def venv(machine: Machine, folder: str) -> str:
    """Lay out a virtual environment by hand; returns the folder of its packages."""
    put(machine, f"{folder}/pyvenv.cfg", "home = /usr/bin\ninclude-system-site-packages = false\n")
    packages = f"{folder}/lib/{python_name()}/site-packages"
    put(machine, f"{packages}/README.txt", "")
    put(machine, f"{folder}/bin/README", "")
    (machine.root / folder.lstrip("/") / "bin" / "python").symlink_to("/usr/bin/python3")
    return packages


def torch_files(version: str, fault: str = "") -> dict[str, str]:
    """The files of a torch, as they lie in a folder of packages."""
    return {
        "torch/__init__.py": _TORCH.format(version=version, fault=fault),
        f"torch-{version}.dist-info/METADATA": _metadata("torch", version),
    }


def torch(machine: Machine, packages: str, version: str, fault: str = "") -> None:
    """Put a torch into a folder of packages; `fault`: what its use of the GPU ends with."""
    for name, text in torch_files(version, fault).items():
        put(machine, f"{packages}/{name}", text, 0o644)


def loaded(machine: Machine) -> list[str]:
    """Which torches were loaded, in order."""
    note = machine.home / "loaded"
    return note.read_text().splitlines() if note.exists() else []


def _metadata(name: str, version: str, requires: tuple[str, ...] = ()) -> str:
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"


@dataclass
class Index:
    """A package index in a folder (PEP 503). `asked` notes what it was asked for.

    While `open` is not set it lets those who ask wait.
    """

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)

    def wheel(
        self,
        name: str,
        version: str,
        files: dict[str, str] | None = None,
        requires: tuple[str, ...] = (),
    ) -> None:
        """Add a wheel; without files it is a module with a version."""
        inside = {f"{name}.py": f"__version__ = {version!r}\n"} if files is None else dict(files)
        about = f"{name}-{version}.dist-info"
        inside[f"{about}/METADATA"] = _metadata(name, version, requires)
        inside[f"{about}/WHEEL"] = (
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        listing = "".join(f"{path},,\n" for path in (*inside, f"{about}/RECORD"))
        target = self._place(name) / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, text in {**inside, f"{about}/RECORD": listing}.items():
                archive.writestr(path, text)

    def source(self, name: str, version: str, backend: str) -> None:
        """Add a source distribution that is built by a program of its own."""
        files = {
            "PKG-INFO": _metadata(name, version),
            "backend.py": backend,
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
            'backend-path = ["."]\n',
        }
        with tarfile.open(self._place(name) / f"{name}-{version}.tar.gz", "w:gz") as archive:
            for path, text in files.items():
                entry = tarfile.TarInfo(f"{name}-{version}/{path}")
                entry.size = len(text.encode())
                archive.addfile(entry, io.BytesIO(text.encode()))

    def torch(self, version: str, fault: str = "") -> None:
        """Add a torch."""
        self.wheel("torch", version, torch_files(version, fault))

    def _place(self, name: str) -> Path:
        place = self.folder / "simple" / name
        place.mkdir(parents=True, exist_ok=True)
        return place


@contextlib.contextmanager
def index(bridge: str, folder: Path) -> Iterator[Index]:
    """Serve a package index to the machines of a bridge, and to nobody else."""
    served = Index(folder)
    (folder / "simple").mkdir(parents=True)
    served.open.set()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            served.asked.append(self.path)
            served.open.wait(60)
            with contextlib.suppress(ConnectionError):
                super().do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    address = f"10.99.{bridge.removeprefix('crbr')}.1"
    with ThreadingHTTPServer((address, 0), Handler) as server:
        served.url = f"http://{address}:{server.server_port}/simple"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield served
        finally:
            served.open.set()
            server.shutdown()


def use_index(machine: Machine, url: str) -> None:
    """Point the pip of the machine's user to an index."""
    take_away(machine, "etc/pip.conf", "etc/xdg/pip")
    host = url.split("/")[2].partition(":")[0]
    lines = f"index-url = {url}\ntrusted-host = {host}\ntimeout = 60\n"
    put(machine, f"/home/{USER}/.config/pip/pip.conf", f"[global]\n{lines}", 0o644)
