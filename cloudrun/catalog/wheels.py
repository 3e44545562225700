"""Which torch wheel fits a machine: the install line, and why that one.

Pure: what the machine has comes in, a line comes out. The facts are of November
2026, when PyPI had torch 2.15: its Linux wheels carry CUDA 13.2 and code for
compute capability 7.5 and newer, its Windows and macOS wheels no CUDA. CUDA 13
runs on drivers from 580 on, CUDA 12 on drivers from 525 on.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloudrun.errors import WrongUsage

_INDEX = "https://download.pytorch.org/whl/"
_INSTALLERS = {"pip": "python -m pip install", "uv": "uv pip install"}
# The Python versions that a release has wheels for: from, to.
_PYTHONS = {
    "2.2.2": ((3, 8), (3, 12)),
    "2.11.*": ((3, 10), (3, 14)),
    "2.14.*": ((3, 10), (3, 14)),
}
_TURING, _AMPERE, _BLACKWELL = (7, 5), (8, 0), (10, 0)
_OLDEST = (5, 0)
_CUDA_12, _CUDA_12_8, _CUDA_13 = (525,), (570,), (580,)


@dataclass(frozen=True, slots=True)
class WheelChoice:
    """How to install torch on one machine.

    Attributes:
        command: The line to run; None where nothing fits, and `why` says what to do.
        why: One or two sentences for a person.
        torch: The requirement in the line, such as `torch==2.14.*`; None without a line.
        index_url: The package index in the line; None for PyPI.
    """

    command: str | None
    why: str
    torch: str | None
    index_url: str | None


def install_line(
    system: str,
    machine: str,
    python: tuple[int, int],
    driver: str | None,
    compute_capability: str | None,
    installer: str = "pip",
) -> WheelChoice:
    """The torch install line for one machine.

    Args:
        system: `Linux`, `Windows` or `Darwin`, as `platform.system()` says it.
        machine: As `platform.machine()` says it.
        python: Major and minor version of the Python to install into.
        driver: Version of the NVIDIA driver; None where there is none.
        compute_capability: Of the oldest NVIDIA GPU, such as `7.5`; None if unknown.
        installer: `pip` or `uv`.

    Raises:
        WrongUsage: An unknown installer.
    """
    if installer not in _INSTALLERS:
        raise WrongUsage(f"There is no installer {installer!r}.", "It is pip or uv.")
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower())
    if (system, arch) == ("Darwin", "aarch64"):
        why = "PyPI's wheel for Apple silicon uses the GPU through MPS; it needs macOS 14 or newer."
        return _choice(installer, python, why)
    if (system, arch) == ("Darwin", "x86_64"):
        why = "Wheels for Intel Macs are no longer built: 2.2.2 is the last, and it needs NumPy 1."
        return _choice(installer, python, why, "2.2.2", also="numpy<2")
    if (system, arch) not in {("Linux", "x86_64"), ("Linux", "aarch64"), ("Windows", "x86_64")}:
        return _nothing(f"No torch wheel for {system} on {machine} is known here.")
    if driver is None:
        return _without_gpu(installer, python, system)
    return _with_nvidia(installer, python, (system, arch), driver, compute_capability)


def torch_index(build: str) -> str:
    """The index with the wheels of one build of torch: `cpu`, `cu126`, `rocm7.2`."""
    return _INDEX + build


def _without_gpu(installer: str, python: tuple[int, int], system: str) -> WheelChoice:
    if system == "Windows":
        return _choice(installer, python, "PyPI's wheel for Windows is the one without CUDA.")
    why = "There is no NVIDIA driver here; the wheel without CUDA saves gigabytes of download."
    return _choice(installer, python, why, index="cpu")


def _with_nvidia(
    installer: str,
    python: tuple[int, int],
    platform: tuple[str, str],
    driver: str,
    compute_capability: str | None,
) -> WheelChoice:
    system, arch = platform
    # An unknown GPU is taken for one that the newest wheel supports: most are.
    capability = _numbers(compute_capability) if compute_capability else _TURING
    version = _numbers(driver)
    if capability < _OLDEST:
        return _nothing(
            f"No current wheel supports compute capability {compute_capability}: "
            "torch runs on 5.0 (Maxwell) and newer."
        )
    if arch == "aarch64" and compute_capability and capability < _AMPERE:
        return _nothing(
            "Wheels for Arm hosts are built for compute capability 8.0 and newer; "
            f"this GPU has {compute_capability}."
        )
    if capability >= _BLACKWELL and version < _CUDA_12_8:
        return _upgrade("Blackwell", "570", driver)
    if version < _CUDA_12:
        return _upgrade("Torch", "525", driver)
    if capability < _TURING:
        why = f"Torch 2.14 with CUDA 12.6 is the last that supports {compute_capability}."
        return _choice(installer, python, why, "2.14.*", "cu126")
    if version >= _CUDA_13:
        why = f"Driver {driver} runs CUDA 13."
        if system == "Windows":
            why += " PyPI's wheel for Windows has no CUDA, so this comes from PyTorch's index."
            return _choice(installer, python, why, index="cu130")
        return _choice(installer, python, why + " PyPI's wheel brings it along.")
    if arch == "aarch64":
        return _upgrade("Torch on Arm", "580", driver)
    newer = "A driver from 580 on would run the newest torch."
    if capability >= _BLACKWELL:
        why = f"Torch 2.11 with CUDA 12.8 is the last for Blackwell on driver {driver}. {newer}"
        return _choice(installer, python, why, "2.11.*", "cu128")
    why = f"Torch 2.14 with CUDA 12.6 is the last that runs on driver {driver}. {newer}"
    return _choice(installer, python, why, "2.14.*", "cu126")


def _choice(
    installer: str,
    python: tuple[int, int],
    why: str,
    pinned: str = "",
    index: str = "",
    also: str = "",
) -> WheelChoice:
    """A line, or nothing where the pinned release has no wheel for this Python."""
    oldest, newest = _PYTHONS.get(pinned, (python, python))
    if not oldest <= python <= newest:
        return _nothing(f"{why} It needs Python {_dotted(oldest)} to {_dotted(newest)}.")
    torch = f"torch=={pinned}" if pinned else "torch"
    index_url = torch_index(index) if index else None
    words = [_INSTALLERS[installer], _quoted(torch)]
    words += [_quoted(also)] if also else []
    words += ["--index-url", index_url] if index_url else []
    return WheelChoice(" ".join(words), why, torch, index_url)


def _nothing(why: str) -> WheelChoice:
    return WheelChoice(None, why, None, None)


def _upgrade(what: str, needed: str, driver: str) -> WheelChoice:
    return _nothing(f"{what} needs NVIDIA driver {needed} or newer; this is {driver}: upgrade it.")


def _quoted(requirement: str) -> str:
    """In double quotes where a shell would read more into it; cmd.exe knows no others."""
    return f'"{requirement}"' if set(requirement) & set("*<>") else requirement


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
