from __future__ import annotations

import shlex
from typing import NamedTuple

import pytest

from cloudrun.catalog.wheels import WheelChoice, install_line
from cloudrun.errors import WrongUsage

INDEX = "https://download.pytorch.org/whl/"
NOTHING = (None, None)


class Machine(NamedTuple):
    system: str
    machine: str
    driver: str | None = None
    capability: str | None = None
    python: tuple[int, int] = (3, 12)

    def choice(self) -> WheelChoice:
        return install_line(self.system, self.machine, self.python, self.driver, self.capability)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        # Without an NVIDIA GPU.
        (Machine("Darwin", "arm64"), ("torch", None)),
        (Machine("Darwin", "x86_64"), ("torch==2.2.2", None)),
        (Machine("Darwin", "x86_64", python=(3, 13)), NOTHING),
        (Machine("Windows", "AMD64"), ("torch", None)),
        (Machine("Linux", "x86_64"), ("torch", "cpu")),
        (Machine("Linux", "aarch64"), ("torch", "cpu")),
        (Machine("Linux", "riscv64"), NOTHING),
        (Machine("FreeBSD", "amd64"), NOTHING),
        # T4 and newer, by driver.
        (Machine("Linux", "x86_64", "580.65.06", "7.5"), ("torch", None)),
        (Machine("Linux", "x86_64", "595.58.03", "9.0"), ("torch", None)),
        (Machine("Linux", "x86_64", "579.99", "7.5"), ("torch==2.14.*", "cu126")),
        (Machine("Linux", "x86_64", "535.183.01", "8.9"), ("torch==2.14.*", "cu126")),
        (Machine("Linux", "x86_64", "525.60.13", "8.0"), ("torch==2.14.*", "cu126")),
        (Machine("Linux", "x86_64", "515.105.01", "8.0"), NOTHING),
        (Machine("Linux", "x86_64", "580.65.06", None), ("torch", None)),
        (Machine("Linux", "x86_64", "535.183.01", "8.9", (3, 15)), NOTHING),
        (Machine("Linux", "x86_64", "535.183.01", "8.9", (3, 9)), NOTHING),
        # Before Turing.
        (Machine("Linux", "x86_64", "580.65.06", "7.0"), ("torch==2.14.*", "cu126")),
        (Machine("Linux", "x86_64", "535.183.01", "6.0"), ("torch==2.14.*", "cu126")),
        (Machine("Linux", "x86_64", "580.65.06", "5.2"), ("torch==2.14.*", "cu126")),
        (Machine("Linux", "x86_64", "470.256.02", "6.0"), NOTHING),
        (Machine("Linux", "x86_64", "470.256.02", "3.7"), NOTHING),
        (Machine("Linux", "x86_64", "580.65.06", "3.7"), NOTHING),
        # Blackwell: no code for it in cu126.
        (Machine("Linux", "x86_64", "580.65.06", "12.0"), ("torch", None)),
        (Machine("Linux", "x86_64", "575.51.03", "10.0"), ("torch==2.11.*", "cu128")),
        (Machine("Linux", "x86_64", "565.57.01", "12.0"), NOTHING),
        # Arm hosts.
        (Machine("Linux", "aarch64", "580.65.06", "7.5"), NOTHING),
        (Machine("Linux", "aarch64", "580.65.06", "9.0"), ("torch", None)),
        (Machine("Linux", "aarch64", "570.26", "9.0"), NOTHING),
        # Windows: PyPI's wheel there has no CUDA.
        (Machine("Windows", "AMD64", "581.15", "8.6"), ("torch", "cu130")),
        (Machine("Windows", "AMD64", "560.94", "8.6"), ("torch==2.14.*", "cu126")),
        (Machine("Windows", "AMD64", "581.15", "6.1"), ("torch==2.14.*", "cu126")),
        (Machine("Windows", "ARM64"), NOTHING),
    ],
)
def test_choice(machine: Machine, expected: tuple[str | None, str | None]) -> None:
    choice = machine.choice()
    torch, index = expected
    assert (choice.torch, choice.index_url) == (torch, INDEX + index if index else None)
    assert (choice.command is None) == (torch is None)
    assert choice.why.endswith(".")


@pytest.mark.parametrize(
    ("machine", "word"),
    [
        (Machine("Darwin", "x86_64"), "no longer built"),
        (Machine("Darwin", "x86_64", python=(3, 13)), "Python 3.8 to 3.12"),
        (Machine("Linux", "x86_64"), "gigabytes"),
        (Machine("Linux", "x86_64", "580.65.06", "3.7"), "3.7"),
        (Machine("Linux", "x86_64", "565.57.01", "12.0"), "driver 570 or newer; this is 565.57.01"),
        (Machine("Linux", "x86_64", "470.256.02", "7.0"), "driver 525 or newer"),
        (Machine("Linux", "aarch64", "580.65.06", "7.5"), "8.0 and newer"),
        (Machine("Windows", "AMD64", "581.15", "8.6"), "no CUDA"),
    ],
)
def test_the_reason_names_what_decides(machine: Machine, word: str) -> None:
    assert word in machine.choice().why


def test_the_line_is_one_that_a_shell_runs_as_it_stands() -> None:
    line = Machine("Linux", "x86_64", "535.183.01", "8.9").choice().command
    assert line == f'python -m pip install "torch==2.14.*" --index-url {INDEX}cu126'
    assert Machine("Linux", "x86_64", "590.1", "8.9").choice().command == (
        "python -m pip install torch"
    )
    intel_mac = Machine("Darwin", "x86_64").choice().command
    assert intel_mac is not None
    assert shlex.split(intel_mac)[-2:] == ["torch==2.2.2", "numpy<2"]
    assert '"numpy<2"' in intel_mac


def test_the_installer_can_be_chosen() -> None:
    line = install_line("Linux", "x86_64", (3, 12), None, None, installer="uv").command
    assert line == f"uv pip install torch --index-url {INDEX}cpu"
    with pytest.raises(WrongUsage, match="conda"):
        install_line("Linux", "x86_64", (3, 12), None, None, installer="conda")
