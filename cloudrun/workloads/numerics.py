"""How far a result is from the truth, in units of what its number format allows."""

from __future__ import annotations

import torch

# Relative rounding of one number in each format: half a unit in the last place.
ROUNDING = {
    "fp64": 2.0**-53,
    "fp32": 2.0**-24,
    "tf32": 2.0**-11,
    "fp16": 2.0**-11,
    "bf16": 2.0**-8,
}


def matmul_error(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, dtype: str) -> float:
    """Compare a block of C = A B with float64 on the CPU; at most 1 is right.

    Shapes: a (m, k), b (k, n), c (m, n). The error bound of a dot product of
    length k in fp32 is k eps |A||B|; rounding the inputs (tf32) and the result
    to the format adds a few of its own. What is returned is the largest error
    as a fraction of that bound (Higham, Accuracy and Stability of Numerical
    Algorithms, section 3.5).
    """
    rows, k = min(64, a.shape[0]), a.shape[1]
    left, right = a[:rows].cpu().double(), b[:, :64].cpu().double()
    error = (c[:rows, :64].cpu().double() - left @ right).abs()
    allowed = (k * ROUNDING["fp32"] + 4 * ROUNDING[dtype]) * (left.abs() @ right.abs())
    return worst(error / allowed)


def worst(ratio: torch.Tensor) -> float:
    """The largest element; infinity when any is not a number, so that no test passes it."""
    value = float(ratio.max())
    return value if value == value else float("inf")


def random(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Normal random numbers, the same for every device, seeded by the shape.

    Random bits cost a GPU more power than zeros do and clock it lower, as real
    work does; made on the CPU, they are the same everywhere.
    """
    generator = torch.Generator().manual_seed(hash(shape) % 2**31)
    return torch.randn(shape, generator=generator).to(device=device, dtype=dtype)
