"""The measurements of the benchmark: what work, in what size, and that it is right.

Every case proves its result against float64 before its first timed call.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable, Optional

import torch

from cloudrun.workloads import nvml
from cloudrun.workloads.device import (
    DTYPES,
    float_types,
    free_memory_bytes,
    use_tf32,
)
from cloudrun.workloads.findings import WRONG_NUMBERS, Failure
from cloudrun.workloads.measure import Work, keep_busy, measure, measure_once
from cloudrun.workloads.numerics import CPU, convolution_error, matmul_error, random

MIB = 2**20

# Sizes around which the CPU and the GPU change places.
CROSSOVER_SIZES = (64, 256, 1024)
# A card's first seconds, before its heat and its power limit are felt.
_BURST_S = 2.0
_SOAK_S = {"quick": 3.0, "standard": 20.0, "full": 60.0}


@dataclass(frozen=True)
class Case:
    """One step of the benchmark. `run(budget_s, gpu)` gives its measurements."""

    name: str
    limit_s: float
    run: Callable[[float, Optional[nvml.Gpu]], Iterator[dict[str, Any]]]


def plan(device: torch.device, profile: str) -> list[Case]:
    """List the measurements for this device and profile, in the order they are made.

    On an accelerator the CPU does the same work too, so that the two can be
    compared; its part comes last.
    """
    if device.type == "cpu":
        return _cases(CPU, device)
    burst = Case("matmul fp16 before the warm-up", 300, _burst(device))
    soak = Case("warm-up", 180, _soak(device, _SOAK_S[profile]))
    return [burst, soak, *_cases(device, device), *_cases(CPU, device)]


def _cases(place: torch.device, device: torch.device) -> list[Case]:
    """The cases at one place; `device` is the one that the report is about."""
    on = "" if place == device else " (CPU)"
    matmuls = [
        Case(f"matmul {dtype}{on}", 300, _matmul(place, dtype, _matmul_size(place)))
        for dtype in (float_types(place) if place == device else ["fp32"])
    ]
    crossover = [
        Case(f"matmul fp32 {size}{on}", 60, _matmul(place, "fp32", size))
        for size in (CROSSOVER_SIZES if device.type != "cpu" else ())
    ]
    return [
        *matmuls,
        *crossover,
        Case(f"memory{on}", 300, _memory(place)),
        *(
            Case(f"convolution {dtype} {batch}{on}", 300, _convolution(place, dtype, batch))
            for dtype, batch in _convolutions(place)
        ),
        Case(f"training{on}", 300, _training(place)),
    ]


@contextlib.contextmanager
def no_gpu() -> Iterator[None]:
    """Stand in for an opened GPU where there is none to watch."""
    yield None


def _burst(device: torch.device) -> Any:
    """What a matrix product reaches at first; never again, so a second look would be another's."""
    run_for = _matmul(device, "fp16", _matmul_size(device), "matmul_burst", measure_once)

    def run(_budget_s: float, gpu: Optional[nvml.Gpu]) -> Iterator[dict[str, Any]]:
        return run_for(_BURST_S, gpu)  # type: ignore[no-any-return]

    return run


def _soak(device: torch.device, seconds: float) -> Any:
    """Work until the device is as warm as in real use: a cold one gives a higher score."""

    def run(_budget_s: float, _gpu: Optional[nvml.Gpu]) -> Iterator[dict[str, Any]]:
        keep_busy(device, seconds)
        return iter(())

    return run


def _matmul_size(place: torch.device) -> int:
    return {"cuda": 8192, "mps": 4096}.get(place.type, 2048)


def _matmul(
    place: torch.device, dtype: str, size: int, name: str = "matmul", timed: Any = measure
) -> Any:
    """C = A B with A, B (size, size): 2 size^3 floating-point operations."""

    def run(budget_s: float, gpu: Optional[nvml.Gpu]) -> Iterator[dict[str, Any]]:
        use_tf32(dtype == "tf32")
        kind = DTYPES[dtype]
        a, b = random((size, size), place, kind), random((size, size), place, kind, seed=1).t()
        c = torch.empty((size, size), device=place, dtype=kind)
        torch.mm(a, b, out=c)
        error = matmul_error(a, b, c, dtype)
        if error > 1:
            raise Failure(
                f"A matrix product in {dtype} of size {size} is off by {error:.3g} times what "
                "rounding allows, so its speed means nothing.",
                WRONG_NUMBERS,
            )
        work = Work(
            name=name,
            unit="TFLOP/s",
            amount=2 * size**3 / 1e12,
            call=lambda: torch.mm(a, b, out=c),
            params={"dtype": dtype, "m": size, "n": size, "k": size},
            flops=2.0 * size**3,
            bytes=3.0 * size**2 * a.element_size(),
            # A small product is the work of one thread.
            busy=size >= 1024,
        )
        before = c.clone()
        row = timed(work, place, budget_s, gpu)
        # cuBLAS promises the same bits for the same product; a GPU that errs when it is
        # hot, or now and then, does not keep that promise.
        same = place.type != "cuda" or torch.version.hip or torch.equal(before, c)
        if not same:
            raise Failure(
                f"The same matrix product in {dtype} of size {size} gave other numbers after "
                f"{row['n']} repetitions.",
                WRONG_NUMBERS,
            )
        yield row

    return run


def _memory(place: torch.device) -> Any:
    """Copy y = x (moves 2 numbers an element) and triad y = x + 3 z (moves 3)."""

    def run(budget_s: float, gpu: Optional[nvml.Gpu]) -> Iterator[dict[str, Any]]:
        length = _memory_length(place)
        x = random((length,), place, torch.float32)
        # With few digits, so that 3 z is exact: the sum is then rounded once, whether a
        # device multiplies and adds in one step or in two.
        z = random((length,), place, torch.bfloat16, seed=1).float()
        y = torch.zeros_like(x)
        kernels = {
            "copy": (lambda: y.copy_(x), 2, lambda: x),
            "triad": (lambda: torch.add(x, z, alpha=3.0, out=y), 3, lambda: x + 3.0 * z),
        }
        for name, (call, moved, expected) in kernels.items():
            call()
            if not torch.equal(y, expected()):
                raise Failure(f"A memory {name} gave wrong numbers.", WRONG_NUMBERS)
            size = moved * x.numel() * x.element_size()
            work = Work(
                name=f"memory_{name}",
                unit="GB/s",
                amount=size / 1e9,
                call=call,
                params={"dtype": "fp32", "buffer_bytes": x.numel() * x.element_size()},
                flops=0.0 if name == "copy" else 2.0 * x.numel(),
                bytes=float(size),
            )
            yield measure(work, place, budget_s, gpu)

    return run


def _memory_length(place: torch.device) -> int:
    """Elements of a buffer that no cache holds: 4 times the last one, 256 MiB at least.

    On a GPU 1 GiB, so that the launch of the kernel does not count; never more
    than a sixteenth of what is free, since the proof needs buffers too.
    """
    wanted = (
        1024 * MIB if place.type != "cpu" else min(max(256 * MIB, 4 * _last_cache()), 1024 * MIB)
    )
    free = free_memory_bytes(place)
    most = free // 16 if free else wanted
    return max(MIB, min(wanted, most)) // 4


def _last_cache() -> int:
    """The size of the processor's last cache in bytes; 64 MiB where the system does not tell."""
    folder = "/sys/devices/system/cpu/cpu0/cache"
    sizes = [64 * MIB] if not os.path.isdir(folder) else [0]
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name, "size")
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                text = file.read().strip()
            sizes.append(int(text[:-1]) * {"K": 1024, "M": MIB}.get(text[-1:], 0))
    return max(sizes)


def _convolutions(place: torch.device) -> list[tuple[str, int]]:
    """Number formats and batches: what suits an accelerator, and the CPU's own work."""
    return [("fp16", 64), ("fp32", 8)] if place.type != "cpu" else [("fp32", 8)]


def _convolution(place: torch.device, dtype: str, batch: int) -> Any:
    """A 3 x 3 convolution of 64 channels on 56 x 56 images, forwards and backwards.

    The shape of ResNet-50's first stage; channels last, as current hardware
    wants it. Backwards costs twice forwards.
    """
    channels, side = 64, 56

    def run(budget_s: float, gpu: Optional[nvml.Gpu]) -> Iterator[dict[str, Any]]:
        kind, layout = DTYPES[dtype], torch.channels_last
        # Scaled so that the sums are near 1, as in a trained model.
        layer = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        weights = random((channels, channels, 3, 3), CPU, torch.float32, seed=1) / 24
        layer.weight = torch.nn.Parameter(weights)
        layer = layer.to(device=place, dtype=kind, memory_format=layout)
        shape = (batch, channels, side, side)
        images = random(shape, place, kind).to(memory_format=layout)
        gradient = random(shape, place, kind, seed=2).to(memory_format=layout)
        images.requires_grad_()

        def step() -> tuple[torch.Tensor, ...]:
            result = layer(images)
            return (result, *torch.autograd.grad(result, (images, layer.weight), gradient))

        found = tuple(part.detach() for part in step())
        error = convolution_error(images.detach(), layer.weight.detach(), gradient, found, dtype)
        if error > 1:
            raise Failure(
                f"A convolution is off by {error:.3g} times what rounding allows, so its speed "
                "means nothing.",
                WRONG_NUMBERS,
            )
        flops = 3 * 2 * batch * channels * channels * 9 * side * side
        work = Work(
            name="convolution",
            unit="TFLOP/s",
            amount=flops / 1e12,
            call=step,
            params={"dtype": dtype, "batch": batch, "channels": channels, "side": side},
            flops=float(flops),
            bytes=3.0 * 2 * images.numel() * images.element_size(),
        )
        yield measure(work, place, budget_s, gpu)

    return run


class _Transformer(torch.nn.Module):
    """A small language model: embedding, blocks of attention and feed-forward, a head."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(vocabulary, width)
        layer = torch.nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.blocks = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = torch.nn.Linear(width, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.embedding(tokens)))


def _training(place: torch.device) -> Any:
    """One training step of a small transformer: forwards, backwards, optimiser.

    The same model, batch and number format everywhere, so that the CPU's and
    the GPU's numbers are about the same work.
    """
    vocabulary, width, layers, heads, batch, context = 1024, 256, 4, 4, 16, 128

    def run(budget_s: float, gpu: Optional[nvml.Gpu]) -> Iterator[dict[str, Any]]:
        torch.manual_seed(0)
        model = _Transformer(vocabulary, width, layers, heads).to(place)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        tokens = torch.randint(0, vocabulary, (batch, context + 1)).to(place)
        losses: list[torch.Tensor] = []

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            scores = model(tokens[:, :-1])
            loss = torch.nn.functional.cross_entropy(scores.transpose(1, 2), tokens[:, 1:])
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())

        for _ in range(3):
            step()
        first, last = float(losses[0]), float(losses[-1])
        if not (abs(first - math.log(vocabulary)) < 1 and last < first):
            raise Failure(
                f"Training does not learn: the loss went from {first:.3f} to {last:.3f}; it "
                f"should begin near {math.log(vocabulary):.2f} and fall.",
                WRONG_NUMBERS,
            )
        work = Work(
            name="training",
            unit="tokens/s",
            amount=batch * context,
            call=step,
            params={
                "model": "transformer",
                "dtype": "fp32",
                "parameters": sum(p.numel() for p in model.parameters()),
                "batch": batch,
                "context": context,
            },
            busy=False,
        )
        yield measure(work, place, budget_s, gpu)

    return run
