"""What a machine is, asked of its shell: no Python, no torch and no workload is needed for it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cloudrun.hosts import scripts
from cloudrun.reports.schema import Environment, Gpu

if TYPE_CHECKING:
    from cloudrun.hosts.connection import Connection

# A GPU whose driver is not kept loaded takes a second or two to wake.
LIMIT_S = 6
_MOST_BYTES, _MOST_CHARACTERS, _MOST_GPUS = 10_000, 200, 64
# Some GPUs do not tell their memory: "[N/A]".
_GPU = re.compile(r"(?P<name>\S.*), (?P<driver>[\d.]+), (?:(?P<mib>\d{1,9})|\[.*\])", re.ASCII)


@dataclass(frozen=True)
class Description:
    """A machine, and what its NVIDIA driver says instead of its GPUs, where it does not work."""

    environment: Environment
    trouble: str = ""


def there(connection: Connection) -> Description:
    """Ask a machine over its connection.

    Raises:
        HostUnreachable: the connection was lost, or the machine does not answer in time.
    """
    done = connection.run_script(script(), limit_s=LIMIT_S + 2)
    return read(done.out)


def here() -> Description:
    """Ask this machine; where it has no POSIX shell, Python knows enough."""
    if os.name == "nt" or shutil.which("sh") is None:
        told = f"os {platform.system()} {platform.release()}\ncpu {platform.processor()}\n"
        return read(f"{told}python {platform.python_version()}\n".encode())
    command = ["sh", "-c", script()]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)  # noqa: S603 - ours
    return read(done.stdout)


def script() -> str:
    """What a machine's shell runs to say what it is; `read` takes what it says."""
    return scripts.render("describe.sh", limit=LIMIT_S)


def read(said: bytes) -> Description:
    """Read what the script said. The machine is not trusted: all is bounded."""
    lines = said[:_MOST_BYTES].decode("utf-8", "replace").splitlines()
    words = [line[:_MOST_CHARACTERS].partition(" ") for line in lines]
    told = {word: text.strip() for word, _, text in words}
    rows = [found for word, _, text in words if word == "gpu" and (found := _GPU.fullmatch(text))]
    environment = Environment(
        device="cuda" if rows else "cpu",
        os=told.get("os", ""),
        architecture=told.get("architecture"),
        python=told.get("python", ""),
        torch="",
        cpu=told.get("cpu", ""),
        driver=rows[0]["driver"] if rows else None,
        gpus=tuple(
            Gpu(name=row["name"], memory_bytes=int(row["mib"]) * 2**20 if row["mib"] else None)
            for row in rows[:_MOST_GPUS]
        ),
    )
    return Description(environment, told.get("trouble", ""))
