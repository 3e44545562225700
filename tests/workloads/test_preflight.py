"""The first checks, and the match of GPU and build, on machines that are not here.

Nothing real is possible without a GPU, so torch's answers about one are put in its place.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cloudrun.workloads import checks, preflight
from cloudrun.workloads.device import float_types, pick
from cloudrun.workloads.driver import Nvidia, NvidiaGpu
from cloudrun.workloads.findings import Failure, Skip
from cloudrun.workloads.symptoms import DOCTOR

pytestmark = pytest.mark.xdist_group("torch")
Machine = Callable[[Nvidia | None], None]
GPU = torch.device("cuda", 0)
T4 = Nvidia((NvidiaGpu("Tesla T4", "580.126.09", "7.5", 15360),), None)
BROKEN = Nvidia((), "Failed to initialize NVML: Driver/library version mismatch")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Put what nvidia-smi found in place; a torch that cannot use a GPU is real here."""

    def be(seen: Nvidia | None) -> None:
        monkeypatch.setattr(preflight, "nvidia", lambda: seen)

    return be


def test_a_driver_that_answers_names_its_gpus(machine: Machine) -> None:
    machine(T4)
    assert preflight.check_driver("auto") == "NVIDIA driver 580.126.09 sees 1 GPU(s): Tesla T4."


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_broken_driver_fails(machine: Machine, wanted: str) -> None:
    machine(BROKEN)
    with pytest.raises(Failure, match="updated while its old version") as found:
        preflight.check_driver(wanted)
    assert found.value.remedy == "Restart the machine."


@pytest.mark.parametrize("wanted", ["cpu", "mps"])
def test_a_broken_driver_is_no_matter_for_another_device(machine: Machine, wanted: str) -> None:
    machine(BROKEN)
    with pytest.raises(Skip, match=f"'{wanted}' needs no NVIDIA driver"):
        preflight.check_driver(wanted)


def test_no_gpu_is_a_failure_only_where_one_is_wanted(machine: Machine) -> None:
    machine(None)
    with pytest.raises(Skip):
        preflight.check_driver("auto")
    with pytest.raises(Failure, match="No NVIDIA GPU"):
        preflight.check_driver("cuda")


def test_an_amd_gpu_is_called_cuda_too_and_needs_no_nvidia_driver(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(None)
    monkeypatch.setattr(preflight, "torch_version", lambda: "2.13.0+rocm7.2")
    with pytest.raises(Skip):
        preflight.check_driver("cuda")


def test_a_gpu_that_torch_cannot_use_is_told_with_torchs_own_reason(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")

    machine(T4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(Failure, match="sees a Tesla T4") as found:
        preflight.check_device("auto")
    assert "older than this build of torch needs" in str(found.value)
    assert found.value.remedy == DOCTOR


def test_hidden_gpus_are_told_apart_from_a_wrong_torch(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def init() -> None:
        raise RuntimeError("No CUDA GPUs are available")

    machine(T4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(Failure) as found:
        preflight.check_device("cuda")
    assert found.value.remedy == "Run 'unset CUDA_VISIBLE_DEVICES' and try again."


def test_mps_is_not_asked_about_cuda(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(None)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(Failure, match="cannot use the device 'mps' here.$"):
        preflight.check_device("mps")


def test_a_gpu_is_picked_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    # torch.cuda.mem_get_info refuses a device without one before torch 2.5.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick("auto") == pick("cuda") == torch.device("cuda", 0)
    assert pick("cpu").index is None


PYPI_2_15 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.mark.parametrize(
    ("gpu", "built", "by"),
    [
        ((7, 5), PYPI_2_15, "sm_75"),
        ((8, 9), PYPI_2_15, "sm_80"),
        ((8, 9), ["sm_86"], "sm_86"),
        ((6, 1), CU126, "sm_60"),
        ((5, 2), CU126, "sm_50"),
        ((12, 0), PYPI_2_15, "sm_120"),
        ((12, 1), PYPI_2_15, "sm_120"),
        ((10, 3), PYPI_2_15, "sm_100"),
        ((13, 0), PYPI_2_15, "compute_120"),
        ((9, 0), ["sm_80", "sm_90a"], "sm_90a"),
        ((10, 3), ["sm_100f"], "sm_100f"),
        ((12, 0), ["sm_90", "compute_90"], "compute_90"),
        # By PTX of an older generation: an Ampere build for Hopper.
        ((9, 0), ["sm_80", "compute_80"], "compute_80"),
    ],
)
def test_code_that_runs_on_a_gpu_is_found(
    monkeypatch: pytest.MonkeyPatch, gpu: tuple[int, int], built: list[str], by: str
) -> None:
    be_gpu(monkeypatch, gpu, built)
    said = checks.check_architecture(GPU)
    assert f"generation {gpu[0]}.{gpu[1]}" in said
    assert f"({by})" in said
    assert ("compile" in said) == by.startswith("compute")


@pytest.mark.parametrize(
    ("gpu", "built"),
    [
        ((7, 5), ["sm_80", "sm_86", "sm_90"]),
        ((7, 0), PYPI_2_15),
        ((6, 1), PYPI_2_15),
        ((12, 0), CU126),
        ((9, 0), ["sm_80", "sm_86"]),
        # Newer code, and code for one version only, does not run.
        ((8, 0), ["sm_86", "compute_86"]),
        ((10, 3), ["sm_100a"]),
        ((12, 1), ["sm_120a", "compute_120a"]),
        ((12, 0), ["sm_100f", "compute_100f"]),
        ((8, 0), ["gfx90a", ""]),
        ((8, 0), []),
    ],
)
def test_a_gpu_without_code_for_it_fails_with_what_there_is(
    monkeypatch: pytest.MonkeyPatch, gpu: tuple[int, int], built: list[str]
) -> None:
    be_gpu(monkeypatch, gpu, built)
    with pytest.raises(Failure, match=f"generation {gpu[0]}.{gpu[1]}") as found:
        checks.check_architecture(GPU)
    assert (", ".join(built) or "none") in str(found.value)
    assert found.value.remedy == DOCTOR


def be_gpu(monkeypatch: pytest.MonkeyPatch, gpu: tuple[int, int], built: list[str]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: gpu)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.version, "hip", None)


@pytest.mark.parametrize(
    ("gpu", "types"),
    [
        ((6, 0), ["fp32", "fp16"]),
        ((7, 5), ["fp32", "fp16"]),  # its bf16 is emulated
        ((8, 0), ["fp32", "tf32", "fp16", "bf16"]),
        ((12, 0), ["fp32", "tf32", "fp16", "bf16"]),
    ],
)
def test_formats_that_a_gpu_only_emulates_are_left_out(
    monkeypatch: pytest.MonkeyPatch, gpu: tuple[int, int], types: list[str]
) -> None:
    be_gpu(monkeypatch, gpu, [])
    assert float_types(GPU) == types


def test_amd_has_no_tf32_and_apple_no_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    be_gpu(monkeypatch, (9, 4), [])
    monkeypatch.setattr(torch.version, "hip", "7.2")
    assert float_types(GPU) == ["fp32", "fp16", "bf16"]
    assert float_types(torch.device("mps")) == ["fp32", "fp16"]


def test_the_compiler_check_knows_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(checks.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setattr(checks.shutil, "which", lambda name: name)
    assert "header files" in checks._no_compiler(cpu)
    (tmp_path / "Python.h").touch()
    assert checks._no_compiler(cpu) == ""
    monkeypatch.setattr(checks.shutil, "which", lambda _name: None)
    if os.name != "nt":
        assert "C++ compiler" in checks._no_compiler(cpu)
    be_gpu(monkeypatch, (6, 1), [])
    assert "older than its compiler" in checks._no_compiler(GPU)


def test_a_python_that_torch_cannot_compile_for_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(function: object) -> None:
        raise RuntimeError("torch.compile is not supported on Python 3.15+")

    monkeypatch.setattr(checks, "_no_compiler", lambda _device: "")
    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(Skip, match="not supported on Python 3.15"):
        checks.check_compile(torch.device("cpu"))


def test_a_torch_without_mixed_precision_for_the_device_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(kind: str, dtype: torch.dtype) -> None:
        raise RuntimeError(f"User specified an unsupported autocast device_type '{kind}'")

    monkeypatch.setattr(torch, "autocast", refuse)
    with pytest.raises(Skip, match="no mixed precision for 'cpu'"):
        checks.check_mixed_precision(torch.device("cpu"))


@pytest.mark.parametrize(
    ("free", "filled"),
    [
        (14_000, 12_600),  # nine tenths
        (1_000, 744),  # what is left must hold a block to compare with, and its result
        (100, -156),  # so little that one block is tried
    ],
)
def test_enough_of_a_gpus_memory_stays_free_to_compare(
    monkeypatch: pytest.MonkeyPatch, free: int, filled: int
) -> None:
    monkeypatch.setattr(checks, "free_memory_bytes", lambda _device: free * checks.MIB)
    assert checks._memory_to_check(GPU) == filled * checks.MIB


def test_one_changed_number_in_memory_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    right = checks._pattern
    made = []

    def spoiled(number: int, device: torch.device) -> torch.Tensor:
        block = right(number, device)
        made.append(block)
        if len(made) == 2:
            block[12345] ^= 1 << 40
        return block

    monkeypatch.setattr(checks, "BLOCK", 2**20)
    monkeypatch.setattr(checks, "_pattern", spoiled)
    assert checks._wrong_numbers(3, torch.device("cpu")) == 1


def test_no_two_blocks_hold_the_same_number_in_the_same_place() -> None:
    cpu = torch.device("cpu")
    first, second = checks._pattern(0, cpu), checks._pattern(1, cpu)
    assert not bool((first == second).any())
    assert int(first.max()).bit_length() > 50


class _Health:
    """A GPU that answers what a test wants about its memory."""

    def __init__(self, now: int | None, ever: int | None, worn_out: bool = False) -> None:
        self._now, self._ever, self._worn_out = now, ever, worn_out

    def uncorrected_errors(self, ever: bool = False) -> int | None:
        return self._ever if ever else self._now

    def is_out_of_spare_memory(self) -> bool:
        return self._worn_out


def be_opened(monkeypatch: pytest.MonkeyPatch, gpu: Any) -> None:
    @contextlib.contextmanager
    def opened(_device: torch.device) -> Iterator[Any]:
        yield gpu

    monkeypatch.setattr(checks.nvml, "open_device", opened)


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        (_Health(0, 0), "no memory error that it could not correct."),
        (_Health(0, 7), "no memory error that it could not correct since its driver was loaded"),
        (_Health(None, None), "does not count"),
    ],
)
def test_a_healthy_gpu(monkeypatch: pytest.MonkeyPatch, gpu: _Health, said: str) -> None:
    # Errors of the past are replaced memory: cloud GPUs with some are in service, and good.
    be_opened(monkeypatch, gpu)
    assert said in checks.check_health(GPU)


@pytest.mark.parametrize(
    ("gpu", "said"),
    [
        (_Health(1, 8), "found 1 memory errors"),
        (_Health(0, 8, worn_out=True), "could not replace"),
        (_Health(None, None, worn_out=True), "could not replace"),
    ],
)
def test_a_gpu_with_faulty_memory(monkeypatch: pytest.MonkeyPatch, gpu: _Health, said: str) -> None:
    be_opened(monkeypatch, gpu)
    with pytest.raises(Failure, match=said):
        checks.check_health(GPU)


def test_a_gpu_that_cannot_be_asked_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    be_opened(monkeypatch, None)
    with pytest.raises(Skip):
        checks.check_health(GPU)
    with pytest.raises(Skip):
        checks.check_clocks(GPU)
