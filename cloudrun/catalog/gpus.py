"""What a GPU is on paper: memory, bandwidth and peaks, each with its source.

Peaks are dense and accumulate in fp32, as `torch.mm` does: half of what a sheet
prints "with sparsity", and half of GeForce's fp16-accumulate figures. A source
is `owner/repository@commit` on GitHub, or a document by its title. The peaks
of other projects' tables were compared with measurements before they came here;
several well-known tables mix in sparse figures or another card's.

A peak is multiprocessors x FLOP per clock x the clock that the sheet assumes. So
that clock can be had from the other three, exactly; sheets print one boost clock,
and Hopper's and Blackwell's reckon their tensor cores at a lower one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from cloudrun.catalog import table
from cloudrun.errors import WrongUsage

# What a driver reports is a little less than the sheet's figure, by what ECC and
# the driver keep: from 91 % (T4, L4) to all of it. A share of a GPU is far less.
_MEMORY_SEEN = (0.85, 1.05)

_NOT_A_MODEL = (
    r"\b(?:nvidia|amd|tesla|geforce|instinct|quadro|rtx|blackwell|generation|edition|gpu)"
    r"(?=\b|a?\d|pro)"
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU model. None is a number that no source gives; it is never a guess.

    Attributes:
        name: The catalogue's name, unique.
        device_names: What `torch.cuda.get_device_name()` says, exactly; may be empty.
        architecture: NVIDIA's or AMD's word for the generation.
        compute_capability: As CUDA says it (`8.9`), or AMD's target (`gfx942`).
        year: Of launch.
        memory_gb: As the vendor counts it; drivers report up to 10 % less, in GiB.
        bandwidth_gbps: Memory bandwidth, decimal GB/s.
        fp32_tflops: Peak of the plain cores, TFLOP/s.
        tf32_tflops: Dense tensor-core peak, TFLOP/s, as the next three.
        fp16_tflops: None too where the GPU has no tensor cores.
        bf16_tflops: None too where bf16 is emulated.
        fp8_tflops: None too where there are no fp8 units.
        multiprocessors: Of the model as sold; a share of a GPU has fewer.
        fp32_per_clock: FLOP that one multiprocessor's plain cores do in a clock.
        tensor_per_clock: The same of its tensor cores in fp16 and bf16, dense, summed
            in fp32. None too where trustworthy sources differ by a factor of two.
        boost_mhz: The boost clock that is printed for it. None too where the sheet's
            fp32 peak is reckoned at another one.
        tdp_w: Power limit as sold, watts.
        measured_tflops: Best published measured matrix product, TFLOP/s.
        measured_dtype: Its type, `bf16` or `fp16`; empty without a measurement.
        measured_source: Who measured it.
        contested: Trustworthy sources disagree on the tensor-core peaks.
        host: Architecture of the machines it comes in, `x86_64` or `aarch64`.
        notes: For the reader, may be empty.
        source: Where the numbers come from.
        clock_source: Where multiprocessors, FLOP per clock and boost clock come from.
    """

    name: str
    device_names: tuple[str, ...]
    architecture: str
    compute_capability: str
    year: int
    memory_gb: float
    bandwidth_gbps: float | None
    fp32_tflops: float | None
    tf32_tflops: float | None
    fp16_tflops: float | None
    bf16_tflops: float | None
    fp8_tflops: float | None
    multiprocessors: int | None
    fp32_per_clock: float | None
    tensor_per_clock: float | None
    boost_mhz: float | None
    tdp_w: float | None
    measured_tflops: float | None
    measured_dtype: str
    measured_source: str
    contested: bool
    host: str
    notes: str
    source: str
    clock_source: str


@cache
def all_gpus() -> tuple[Gpu, ...]:
    """Every GPU of the catalogue, oldest generation first."""
    return tuple(_gpu(row) for row in table.read("gpus.csv"))


def find(name: str) -> tuple[Gpu, ...]:
    """The GPUs that a name as people say it can mean: `t4`, `A100`, `A100-80GB`, `rtx4090`.

    Raises:
        WrongUsage: No GPU of the catalogue is called that.
    """
    said = set(_words(name))
    found = tuple(gpu for gpu in all_gpus() if _model(gpu) in said and said <= _all_words(gpu))
    if not found:
        raise WrongUsage(
            f"There is no GPU called {name!r} in the catalogue.",
            "Names are like T4, A100-80GB or RTX 4090.",
            f"{_nearest(name)} `cloudrun gpus` lists what can be rented.".strip(),
        )
    return found


def how_many(name: str, devices: Iterable[tuple[str, int]]) -> int:
    """How many of these devices, each by its name and memory in bytes, are the GPU of this name.

    Raises:
        WrongUsage: there is no such GPU.
    """
    wanted = {gpu.name for gpu in find(name)}
    known = [by_device(device, memory) for device, memory in devices]
    return sum(gpu is not None and gpu.name in wanted for gpu in known)


def by_device(torch_name: str, memory_bytes: int | None = None) -> Gpu | None:
    """The GPU that `torch.cuda.get_device_name()` names, or None where that is not certain.

    Args:
        torch_name: The device's name, exactly; a leading "NVIDIA" or "Tesla" may lack.
        memory_bytes: The device's total memory. Where given it must fit the model: a
            share of a GPU often bears the whole one's name, and has not its peaks.
    """
    name = _bare(torch_name)
    found = [gpu for gpu in all_gpus() if name in map(_bare, gpu.device_names)]
    if memory_bytes is not None:
        found = [gpu for gpu in found if _fits(memory_bytes, gpu)]
    return found[0] if len(found) == 1 else None


def peak_tflops(gpu: Gpu, dtype: str) -> float | None:
    """The dense peak in TFLOP/s for `fp32`, `tf32`, `fp16`, `bf16` or `fp8`.

    None where no source gives it, and for any other dtype.
    """
    peaks = {
        "fp32": gpu.fp32_tflops,
        "tf32": gpu.tf32_tflops,
        "fp16": gpu.fp16_tflops,
        "bf16": gpu.bf16_tflops,
        "fp8": gpu.fp8_tflops,
    }
    return peaks.get(dtype)


def peak_tflops_at(gpu: Gpu, dtype: str, mhz: float) -> float | None:
    """The dense peak in TFLOP/s at a clock of `mhz`, for a dtype that has a peak.

    None where no source gives the multiprocessors or what they do in a clock.
    """
    per_clock = _flop_per_clock(gpu, dtype)
    return per_clock * mhz / 1e6 if per_clock and peak_tflops(gpu, dtype) else None


def _flop_per_clock(gpu: Gpu, dtype: str) -> float | None:
    """FLOP that the whole GPU does in a clock; tf32 is half as fast as fp16, fp8 twice."""
    tensor = gpu.tensor_per_clock or 0.0
    each = {
        "fp32": gpu.fp32_per_clock,
        "tf32": tensor / 2,
        "fp16": tensor,
        "bf16": tensor,
        "fp8": tensor * 2,
    }.get(dtype)
    return gpu.multiprocessors * each if gpu.multiprocessors and each else None


def _gpu(row: dict[str, str]) -> Gpu:
    return Gpu(
        name=row["name"],
        device_names=tuple(row["device_names"].split("|")) if row["device_names"] else (),
        architecture=row["architecture"],
        compute_capability=row["compute_capability"],
        year=int(row["year"]),
        memory_gb=float(row["memory_gb"]),
        bandwidth_gbps=table.number(row["bandwidth_gbps"]),
        fp32_tflops=table.number(row["fp32_tflops"]),
        tf32_tflops=table.number(row["tf32_tflops"]),
        fp16_tflops=table.number(row["fp16_tflops"]),
        bf16_tflops=table.number(row["bf16_tflops"]),
        fp8_tflops=table.number(row["fp8_tflops"]),
        multiprocessors=int(row["multiprocessors"]) if row["multiprocessors"] else None,
        fp32_per_clock=table.number(row["fp32_per_clock"]),
        tensor_per_clock=table.number(row["tensor_per_clock"]),
        boost_mhz=table.number(row["boost_mhz"]),
        tdp_w=table.number(row["tdp_w"]),
        measured_tflops=table.number(row["measured_tflops"]),
        measured_dtype=row["measured_dtype"],
        measured_source=row["measured_source"],
        contested=row["contested"] == "yes",
        host=row["host"],
        notes=row["notes"],
        source=row["source"],
        clock_source=row["clock_source"],
    )


@cache
def _words(name: str) -> tuple[str, ...]:
    """The words of a name that tell models apart, alike for all ways to write it."""
    text = re.sub(r"[^a-z0-9]+", " ", name.lower())
    text = re.sub(_NOT_A_MODEL, " ", text)
    text = re.sub(r"\bpro (?=\d)", "pro", text)  # the RTX PRO 6000 is not the RTX 6000
    text = re.sub(r"(?<=\d) ti\b", "ti", text)
    text = re.sub(r"\b(\d+) ?gb?\b", r"\1gb", text)
    text = re.sub(r"\bsxm\d\b", "sxm", text)
    return tuple(text.split())


def _model(gpu: Gpu) -> str:
    """The word that must be said; the other words only narrow it down."""
    return _words(gpu.name)[0]


def _all_words(gpu: Gpu) -> set[str]:
    names = (gpu.name, *gpu.device_names, f"{gpu.memory_gb:g}GB")
    return {word for name in names for word in _words(name)}


def _nearest(name: str) -> str:
    import difflib  # after a mistake only, so that no other command pays for it

    names = {_model(gpu): _model(gpu).upper() for gpu in all_gpus()}
    names |= {"".join(_words(gpu.name)): gpu.name for gpu in all_gpus()}
    close = difflib.get_close_matches("".join(_words(name)), names, n=1, cutoff=0.5)
    return f"Did you mean {names[close[0]]}?" if close else ""


def _bare(device_name: str) -> str:
    return device_name.strip().removeprefix("NVIDIA ").removeprefix("Tesla ")


def _fits(memory_bytes: int, gpu: Gpu) -> bool:
    least, most = _MEMORY_SEEN
    return least <= memory_bytes / 2**30 / gpu.memory_gb <= most
