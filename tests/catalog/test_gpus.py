from __future__ import annotations

import subprocess
import sys

import pytest

from cloudrun.catalog import gpus
from cloudrun.catalog.gpus import Gpu
from cloudrun.errors import WrongUsage

EVERY_GPU = pytest.mark.parametrize("gpu", gpus.all_gpus(), ids=lambda gpu: gpu.name)
WITHOUT_BF16_UNITS = {"Kepler", "Maxwell", "Pascal", "Volta", "Turing"}


def peak_mhz(gpu: gpus.Gpu, dtype: str) -> float | None:
    """The clock that a peak assumes: sheets round, so it is up to 1.3 % off the printed one."""
    peak, at_one = gpus.peak_tflops(gpu, dtype), gpus.peak_tflops_at(gpu, dtype, 1.0)
    return peak / at_one if peak and at_one else None


def one(name: str) -> Gpu:
    (gpu,) = gpus.find(name)
    return gpu


def names(found: tuple[Gpu, ...]) -> set[str]:
    return {gpu.name for gpu in found}


# The figures.


@EVERY_GPU
def test_every_gpu_has_a_source(gpu: Gpu) -> None:
    assert gpu.source
    words = f"{gpu.source} {gpu.notes}".lower()
    assert not [bad for bad in ("recalled", "unverified", "stored copy") if bad in words]


@EVERY_GPU
def test_bf16_and_fp16_peaks_are_equal_where_bf16_has_units(gpu: Gpu) -> None:
    if gpu.architecture in WITHOUT_BF16_UNITS:
        assert gpu.bf16_tflops is gpu.tf32_tflops is gpu.fp8_tflops is None
    else:
        assert gpu.bf16_tflops == gpu.fp16_tflops


@EVERY_GPU
def test_no_peak_is_a_sparse_figure_or_another_columns(gpu: Gpu) -> None:
    if gpu.fp8_tflops:
        assert gpu.bf16_tflops
        assert gpu.fp8_tflops / gpu.bf16_tflops == pytest.approx(2, rel=0.03)
    if gpu.tf32_tflops:
        assert gpu.bf16_tflops
        assert gpu.bf16_tflops / gpu.tf32_tflops == pytest.approx(2, rel=0.03)
    if gpu.fp32_tflops and gpu.fp16_tflops:
        assert gpu.fp16_tflops >= 1.9 * gpu.fp32_tflops


@EVERY_GPU
def test_what_was_measured_is_possible(gpu: Gpu) -> None:
    assert bool(gpu.measured_tflops) == bool(gpu.measured_source) == bool(gpu.measured_dtype)
    if gpu.measured_tflops:
        peak = gpus.peak_tflops(gpu, gpu.measured_dtype)
        assert peak
        assert 0.5 * peak < gpu.measured_tflops <= 1.12 * peak


@EVERY_GPU
def test_sizes_are_in_the_units_that_they_claim(gpu: Gpu) -> None:
    assert 8 <= gpu.memory_gb <= 288
    assert gpu.bandwidth_gbps is None or 100 < gpu.bandwidth_gbps < 10_000
    assert gpu.tdp_w is None or 50 < gpu.tdp_w <= 1000
    assert gpu.host in {"x86_64", "aarch64"}


def test_the_peaks_that_other_tables_get_wrong() -> None:
    assert gpus.peak_tflops(one("H100 SXM"), "bf16") == 989  # not the sparse 1979
    assert gpus.peak_tflops(one("H100 SXM"), "tf32") == 494.5  # not the A100's 156
    assert gpus.peak_tflops(one("A10G"), "bf16") == 70  # not the A10's 125
    assert gpus.peak_tflops(one("4090"), "bf16") == 165.2  # not the plain cores' 82.6
    assert gpus.peak_tflops(one("RTX A6000"), "bf16") == 154.8  # not GeForce's half
    assert gpus.peak_tflops(one("5090"), "bf16") == 209.5  # not the sparse 419
    assert gpus.peak_tflops(one("L4"), "bf16") == 121
    assert gpus.peak_tflops(one("T4"), "fp16") == 65


def test_unknown_peaks_are_none() -> None:
    assert gpus.peak_tflops(one("T4"), "bf16") is None
    assert gpus.peak_tflops(one("P100 PCIe"), "fp16") is None
    assert gpus.peak_tflops(one("A100 80GB PCIe"), "fp64") is None
    assert gpus.peak_tflops(one("A100 80GB PCIe"), "") is None


def test_only_the_ada_data_centre_peaks_are_contested() -> None:
    assert {gpu.name for gpu in gpus.all_gpus() if gpu.contested} == {"L4", "L40", "L40S"}


# Where the sheet reckons the tensor cores at a lower clock than the plain ones.
OWN_TENSOR_CLOCK = {"Hopper"}


@EVERY_GPU
def test_peaks_multiprocessors_and_boost_clock_agree(gpu: Gpu) -> None:
    assert bool(gpu.multiprocessors) == bool(gpu.fp32_per_clock) == bool(gpu.clock_source)
    for dtype in ("fp32", "tf32", "fp16", "bf16", "fp8"):
        derived = peak_mhz(gpu, dtype)
        if derived is None or gpu.boost_mhz is None:
            continue
        if dtype != "fp32" and gpu.architecture in OWN_TENSOR_CLOCK:
            assert 0.85 * gpu.boost_mhz < derived < gpu.boost_mhz
        else:
            assert derived == pytest.approx(gpu.boost_mhz, rel=0.013), dtype


@pytest.mark.parametrize(
    ("name", "dtype", "mhz"),
    [
        ("T4", "fp16", 1587),
        ("H100 SXM", "fp32", 1983),
        ("H100 SXM", "bf16", 1829),  # not the 1980 that is printed as its boost clock
        ("H100 PCIe", "bf16", 1619),
        ("A10G", "bf16", 1709),
        ("B200", "bf16", 1856),
        ("L4", "fp8", 2042),
        ("L40", "fp32", 2490),
    ],
)
def test_the_clock_that_a_peak_assumes(name: str, dtype: str, mhz: float) -> None:
    assert peak_mhz(one(name), dtype) == pytest.approx(mhz, abs=1)


def test_a_peak_grows_with_the_clock() -> None:
    half = gpus.peak_tflops_at(one("T4"), "fp16", 795)
    assert half == pytest.approx(40 * 1024 * 795e6 / 1e12)
    assert gpus.peak_tflops_at(one("A100 80GB SXM4"), "tf32", 1410) == pytest.approx(156, rel=0.01)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("T4", "bf16"),  # no such units
        ("RTX PRO 6000 Server", "bf16"),  # no peak
        ("L40", "bf16"),  # sources differ by a factor of two, and no measurement decides
        ("GB200", "bf16"),  # sources differ on its multiprocessors
        ("MI300X", "bf16"),
        ("T4", "fp64"),
    ],
)
def test_what_no_source_gives_has_no_peak_at_a_clock(name: str, dtype: str) -> None:
    assert gpus.peak_tflops_at(one(name), dtype, 1000) is None
    assert peak_mhz(one(name), dtype) is None


# Names as people say them.


@EVERY_GPU
def test_a_catalogue_name_means_that_gpu_alone(gpu: Gpu) -> None:
    assert gpus.find(gpu.name) == (gpu,)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("T4", {"T4"}),
        ("tesla t4", {"T4"}),
        ("nvidia-tesla-t4", {"T4"}),
        ("T4G", {"T4G"}),
        ("l4", {"L4"}),
        ("L40", {"L40"}),
        ("L40S", {"L40S"}),
        ("A10", {"A10"}),
        ("a10g", {"A10G"}),
        ("4090", {"RTX 4090"}),
        ("rtx4090", {"RTX 4090"}),
        ("RTX 3090", {"RTX 3090"}),
        ("GeForce RTX 2080Ti", {"RTX 2080 Ti"}),
        ("rtxa6000", {"RTX A6000"}),
        ("RTX 6000", {"RTX 6000 Ada"}),
        ("RTX PRO 6000", {"RTX PRO 6000 Server", "RTX PRO 6000 Workstation"}),
        ("P100", {"P100 SXM2 16GB", "P100 PCIe 16GB"}),
        ("V100", {"V100 SXM2 16GB", "V100 SXM2 32GB", "V100 PCIe 16GB", "V100 PCIe 32GB"}),
        ("V100-32GB", {"V100 SXM2 32GB", "V100 PCIe 32GB"}),
        ("A100", {"A100 40GB SXM4", "A100 80GB SXM4", "A100 40GB PCIe", "A100 80GB PCIe"}),
        ("A100-80GB", {"A100 80GB SXM4", "A100 80GB PCIe"}),
        ("A100-SXM4-80 GB", {"A100 80GB SXM4"}),
        ("h100", {"H100 PCIe", "H100 NVL", "H100 SXM"}),
        ("nvidia-h100-80gb", {"H100 PCIe", "H100 SXM"}),
        ("H100 SXM5", {"H100 SXM"}),
    ],
)
def test_find(said: str, meant: set[str]) -> None:
    assert names(gpus.find(said)) == meant


@pytest.mark.parametrize(
    ("said", "nearest"),
    [("T44", "T4"), ("H101", "H100"), ("RTX 4099", "RTX 4090"), ("RTX 3090 Ti", "RTX 3090")],
)
def test_an_unknown_name_is_told_the_nearest(said: str, nearest: str) -> None:
    with pytest.raises(WrongUsage) as error:
        gpus.find(said)
    assert said in error.value.what
    assert error.value.why
    assert f"Did you mean {nearest}?" in error.value.try_this


@pytest.mark.parametrize("said", ["", "  ", "banana", "80GB", "sxm", "nvidia"])
def test_what_names_no_model_is_unknown(said: str) -> None:
    with pytest.raises(WrongUsage):
        gpus.find(said)


# Names as torch says them.


@EVERY_GPU
def test_every_device_name_leads_back_to_its_gpu(gpu: Gpu) -> None:
    for name in gpu.device_names:
        assert gpus.by_device(name) is gpu
        assert gpus.by_device(name, int(0.92 * gpu.memory_gb * 2**30)) is gpu


@pytest.mark.parametrize(
    ("device", "mebibytes", "name"),
    [
        ("Tesla T4", 15360, "T4"),
        ("  Tesla T4\n", None, "T4"),
        ("T4", None, "T4"),
        ("NVIDIA A10G", 23028, "A10G"),
        ("A100-SXM4-40GB", 40960, "A100 40GB SXM4"),  # older drivers leave NVIDIA out
        ("NVIDIA A100 80GB PCIe", 81920, "A100 80GB PCIe"),
        ("NVIDIA H100 80GB HBM3", 81559, "H100 SXM"),
        ("NVIDIA B200", 183359, "B200"),
        ("GeForce RTX 3090", 24576, "RTX 3090"),
    ],
)
def test_by_device(device: str, mebibytes: int | None, name: str) -> None:
    gpu = gpus.by_device(device, mebibytes * 2**20 if mebibytes else None)
    assert gpu is not None
    assert gpu.name == name


@pytest.mark.parametrize(
    "device",
    [
        "",
        "NVIDIA H100",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "nvidia l4",
    ],
)
def test_an_unknown_device_is_never_guessed(device: str) -> None:
    assert gpus.by_device(device) is None


def test_memory_that_does_not_fit_the_model_is_not_that_model() -> None:
    assert gpus.by_device("NVIDIA A100-SXM4-80GB", 40 * 2**30) is None
    assert gpus.by_device("NVIDIA L4", 3 * 2**30) is None  # an eighth, as AWS g6f has it
    assert gpus.by_device("Tesla T4", 32 * 2**30) is None


def test_importing_the_catalogue_is_cheap() -> None:
    code = "import sys, cloudrun.catalog.wheels, cloudrun.catalog.instances; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"msgspec", "torch", "rich", "click", "difflib"} & set(loaded)
