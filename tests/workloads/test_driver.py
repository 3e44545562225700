"""The look for NVIDIA GPUs, with programs in nvidia-smi's place that say what it says.

The texts and exit statuses are those of the real one: its manual page gives the
statuses, the issues of its users the texts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloudrun.workloads import bench, driver, protocol, smoke
from cloudrun.workloads.driver import Nvidia, NvidiaGpu, nvidia
from cloudrun.workloads.symptoms import explain

pytestmark = pytest.mark.skipif(os.name == "nt", reason="The stand-ins are shell scripts.")
Smi = Callable[..., Path]

# The real one prints its errors to stdout, but not always.
NOT_LOADED = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure "
    "that the latest NVIDIA driver is installed and running."
)
MISMATCH = (
    "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.161"
)
LOST = (
    "Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.  "
    "Reboot the system to recover this GPU"
)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but what the test puts there, and a machine without a PCI bus."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in ("_PCI", "_PROC_VERSION", "_WSL"):
        monkeypatch.setattr(driver, name, str(tmp_path / "nowhere"))
    return folder


@pytest.fixture
def smi(bin_folder: Path) -> Smi:
    def install(said: str, status: int = 0, first: str = "") -> Path:
        program = bin_folder / "nvidia-smi"
        text = bin_folder / "said"
        text.write_text(said + "\n" if said else "")
        # A shell's own commands only: there is no other program on this PATH.
        program.write_text(
            f"#!/bin/sh\n{first}\n"
            f'while IFS= read -r line; do printf "%s\\n" "$line"; done < {text}\nexit {status}\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program

    return install


def pci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **devices: tuple[str, str]) -> None:
    """Give the machine a PCI bus with these devices: vendor and class."""
    for name, (vendor, kind) in devices.items():
        folder = tmp_path / "pci" / name
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(vendor + "\n")
        (folder / "class").write_text(kind + "\n")
    monkeypatch.setattr(driver, "_PCI", str(tmp_path / "pci"))


NVIDIA_GPU = ("0x10de", "0x030200")
NETWORK_CARD = ("0x8086", "0x020000")


def test_several_gpus(smi: Smi) -> None:
    smi("Tesla T4, 580.126.09, 7.5, 15360\nNVIDIA A100-SXM4-40GB, 580.126.09, 8.0, 40960")
    assert nvidia() == Nvidia(
        (
            NvidiaGpu("Tesla T4", "580.126.09", "7.5", 15360),
            NvidiaGpu("NVIDIA A100-SXM4-40GB", "580.126.09", "8.0", 40960),
        ),
        None,
    )


def test_it_is_asked_for_what_is_read(smi: Smi, bin_folder: Path) -> None:
    smi("Tesla T4, 580.126.09, 7.5, 15360", first=f'printf "%s\\n" "$@" > {bin_folder}/asked')
    nvidia()
    assert (bin_folder / "asked").read_text().splitlines() == [
        "--query-gpu=name,driver_version,compute_cap,memory.total",
        "--format=csv,noheader,nounits",
    ]


@pytest.mark.parametrize("memory", ["[N/A]", "[Not Supported]", "[Insufficient Permissions]"])
def test_what_a_gpu_does_not_tell_is_left_open(smi: Smi, memory: str) -> None:
    smi(f"NVIDIA GB10, 580.95.05, [N/A], {memory}")
    assert nvidia() == Nvidia((NvidiaGpu("NVIDIA GB10", "580.95.05", "", 0),), None)


def test_a_driver_that_does_not_know_compute_capabilities_is_asked_without(smi: Smi) -> None:
    unknown = 'Field "compute_cap" is not a valid field to query.'
    refuse = f"case \"$*\" in *compute_cap*) printf '%s\\n\\n' '{unknown}'; exit 2;; esac"
    smi("Tesla K80, 470.182.03, 11441", first=refuse)
    assert nvidia() == Nvidia((NvidiaGpu("Tesla K80", "470.182.03", "", 11441),), None)


@pytest.mark.parametrize(
    ("said", "status", "meaning"),
    [
        (NOT_LOADED, 9, "not loaded"),
        (MISMATCH, 18, "updated while its old version"),
        (LOST, 15, "no longer answers"),
        ("No devices were found", 6, "finds no GPU"),
    ],
)
def test_each_known_failure_is_told_and_understood(
    smi: Smi, said: str, status: int, meaning: str
) -> None:
    smi(said, status)
    seen = nvidia()
    assert seen == Nvidia((), said)
    assert meaning in explain(said)[0]


def test_an_error_on_stderr_is_heard_too(smi: Smi) -> None:
    smi("", 255, first="echo 'NVIDIA-SMI has failed' >&2")
    assert nvidia() == Nvidia((), "NVIDIA-SMI has failed")


def test_one_lost_gpu_among_others_is_a_problem_and_the_text_is_about_it(smi: Smi) -> None:
    smi(f"Tesla T4, 580.126.09, 7.5, 15360\n{LOST}", 15)
    assert nvidia() == Nvidia((), LOST)


def test_damaged_records_of_a_board_do_not_hide_a_gpu_that_works(smi: Smi) -> None:
    smi(
        "Tesla V100-SXM2-16GB, 535.161.08, 7.0, 16384\n"
        "WARNING: infoROM is corrupted at gpu 0000:00:1E.0",
        14,
    )
    seen = nvidia()
    assert seen is not None
    assert ([gpu.name for gpu in seen.gpus], seen.problem) == (["Tesla V100-SXM2-16GB"], None)


@pytest.mark.parametrize(
    ("said", "status", "problem"),
    [
        ("\x00\x01 what, is, this, row", 0, "what, is, this, row"),
        ("<html>, 502, Bad, Gateway", 0, "Bad, Gateway"),
        ("", 0, "names no GPU"),
        ("", 255, "exit status 255"),
        ("x" * 100_000, 1, "x" * 2000),
    ],
)
def test_nonsense_is_a_problem_and_no_gpu(smi: Smi, said: str, status: int, problem: str) -> None:
    smi(said, status)
    seen = nvidia()
    assert seen is not None
    assert seen.gpus == ()
    assert problem in (seen.problem or "")
    assert len(seen.problem or "") <= 2000


def test_bytes_that_are_no_text_are_no_crash(smi: Smi, bin_folder: Path) -> None:
    smi("")
    (bin_folder / "said").write_bytes(b"\xff\xfe, 580.1, 7.5, 1\n")
    seen = nvidia()
    assert seen is not None
    assert seen.gpus[0].memory_mib == 1


def test_one_that_hangs_is_given_up_and_killed(smi: Smi, bin_folder: Path) -> None:
    fifo = bin_folder / "never"
    os.mkfifo(fifo)
    smi("", first=f"echo $$ > {bin_folder}/pid; read -r line < {fifo}")
    began = time.monotonic()
    seen = nvidia(limit_s=0.5)
    assert seen == Nvidia((), "nvidia-smi did not answer within 0.5 s")
    assert time.monotonic() - began < 10
    pid = bin_folder / "pid"
    if pid.exists():  # else it was killed before it had begun
        # It is gone already, or its end is there to be taken.
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(int(pid.read_text()), 0)
            assert os.WTERMSIG(status) == signal.SIGKILL


def test_one_that_cannot_be_started_is_told(bin_folder: Path) -> None:
    program = bin_folder / "nvidia-smi"
    program.write_bytes(b"\x7fELF no program")
    program.chmod(0o755)
    seen = nvidia()
    assert seen is not None
    assert "could not be started: Exec format error" in (seen.problem or "")


def test_no_sign_of_a_gpu(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nvidia() is None
    pci(tmp_path, monkeypatch, network=NETWORK_CARD, switch=("0x10de", "0x068000"))
    assert nvidia() is None


def test_a_gpu_without_a_driver_is_seen_on_the_bus(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pci(tmp_path, monkeypatch, network=NETWORK_CARD, gpu=NVIDIA_GPU)
    assert nvidia() == Nvidia((), "nvidia-smi: command not found")


def test_a_driver_without_its_programs_is_seen_in_proc(
    bin_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tmp_path / "version"
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.126.09\n")
    monkeypatch.setattr(driver, "_PROC_VERSION", str(version))
    assert nvidia() == Nvidia((), "nvidia-smi: command not found")


@pytest.mark.parametrize(("said", "status"), [(NOT_LOADED, 9), ("No devices were found", 6)])
def test_a_driver_on_a_machine_that_has_no_gpu_is_no_gpu(
    smi: Smi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, status: int
) -> None:
    smi(said, status)
    pci(tmp_path, monkeypatch, network=NETWORK_CARD)
    assert nvidia() is None
    pci(tmp_path, monkeypatch, gpu=NVIDIA_GPU)
    assert nvidia() == Nvidia((), said)


def test_a_mismatch_is_told_even_where_the_bus_shows_no_gpu(
    smi: Smi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(MISMATCH, 18)
    pci(tmp_path, monkeypatch, network=NETWORK_CARD)
    assert nvidia() == Nvidia((), MISMATCH)


@pytest.mark.parametrize("workload", [smoke, bench])
@pytest.mark.parametrize(
    ("device", "amd", "says"),
    [
        ("cpu", True, True),
        ("cpu", False, False),
        ("auto", True, False),
    ],
)
def test_a_workload_says_that_an_amd_gpu_is_not_measured(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    workload: Any,
    device: str,
    amd: bool,
    says: bool,
) -> None:
    door = tmp_path / "kfd"
    door.write_text("") if amd else None
    monkeypatch.setattr(driver, "_KFD", str(door))
    monkeypatch.setattr(protocol, "_lines", sys.stdout)
    monkeypatch.setattr(workload.guard, "follow", lambda *_: iter(()))
    monkeypatch.setattr(sys, "argv", ["workload", "--device", device])
    assert workload.main() == 0
    assert ("does not measure AMD GPUs" in capsys.readouterr().out) == says
