"""How far a result is from the truth, in units of what its number format allows."""

from __future__ import annotations

import math

import torch

CPU = torch.device("cpu")

# Relative rounding of one number in each format: half a unit in the last place.
ROUNDING = {
    "fp32": 2.0**-24,
    "tf32": 2.0**-11,
    "fp16": 2.0**-11,
    "bf16": 2.0**-8,
}
# A sum of n products in fp32 is off by at most about 4 2^-24 sqrt(n) times their size,
# term after term or in blocks; what a GPU's tensor cores lose by cutting instead of
# rounding comes to 20 at n = 8192, in formats that are allowed far more for other reasons.
_IN_FP32 = 16 * 2.0**-24
# Apple does not say in which format its GPUs sum fp16: 3.2 2^-11 sqrt(n) at most, if in fp16.
_IN_FP16 = 6 * 2.0**-11


def allowed_error(
    exact: torch.Tensor, squares: torch.Tensor, terms: int, dtype: str, *, sums: float, slack: float
) -> torch.Tensor:
    """How far sums of products of random numbers may be from `exact`, element by element.

    Rounding errors point in all directions, so they grow with the square root
    of their number: with the size sqrt(squares) that a sum of random products
    has, not with the sum of absolute values, which is the bound for the worst
    case and would hide an element that is wrong by half (N. J. Higham and
    T. Mary, A New Approach to Probabilistic Rounding Error Analysis, 2019).

    Args:
        exact: The sums in float64.
        squares: The sums of the squared products, in float64.
        terms: How many products each sums.
        dtype: The format; in "tf32" the inputs are rounded too, before they are multiplied.
        sums: What adding two numbers loses, relative to them.
        slack: More than 1 for algorithms that transform their inputs first.
    """
    size = squares.sqrt()
    inputs = 4 if dtype == "tf32" else 1
    format_loses = 2 * ROUNDING[dtype] * (exact.abs() + slack * inputs * size)
    return format_loses + slack * sums * math.sqrt(terms) * size


def matmul_error(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, dtype: str) -> float:
    """Compare C = A B with float64 on the CPU; at most 1 is right.

    Shapes: a (m, k), b (k, n), c (m, n). Looks at up to 64 rows by 64 columns,
    spread over the whole matrix, so that each part of the GPU is asked.
    """
    rows, columns = _spread(c.shape[0], c.device), _spread(c.shape[1], c.device)
    left, right = a[rows].cpu().double(), b[:, columns].cpu().double()
    found, exact = c[rows][:, columns].cpu().double(), left @ right
    squares = left.square() @ right.square()
    allowed = allowed_error(exact, squares, a.shape[1], dtype, sums=_sums(c), slack=1)
    return worst((found - exact).abs() / allowed)


def convolution_error(
    images: torch.Tensor,
    weights: torch.Tensor,
    gradient: torch.Tensor,
    found: tuple[torch.Tensor, ...],
    dtype: str,
) -> float:
    """Compare a padded 3 x 3 convolution and its gradients with float64; at most 1 is right.

    Looks at the first image's result and gradient, and at the gradient of the
    first two channels' weights, which sums over all images.

    Args:
        images: (batch, in, h, w).
        weights: (out, in, 3, 3).
        gradient: What comes back from behind, in the shape of the result.
        found: What `convolve` gives for these.
        dtype: The format that it was computed in.
    """
    images, weights, gradient = (part.cpu().double() for part in (images, weights, gradient))
    batch, channels, height, width = images.shape
    one, two = (images[:1], weights, gradient[:1]), (images, weights[:2], gradient[:, :2])
    compared = (
        (0, one, found[0][:1], 9 * channels),
        (1, one, found[1][:1], 9 * weights.shape[0]),
        (2, two, found[2][:2], batch * height * width),
    )
    errors = []
    for which, parts, part_found, terms in compared:
        exact = convolve(*parts)[which]
        squares = convolve(*(part.square() for part in parts))[which]
        allowed = allowed_error(exact, squares, terms, dtype, sums=_sums(found[0]), slack=4)
        errors.append(worst((part_found.cpu().double() - exact).abs() / allowed))
    return max(errors)


def convolve(
    images: torch.Tensor, weights: torch.Tensor, gradient: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """A convolution's result, and the gradients of its images and its weights."""
    images, weights = images.detach().requires_grad_(), weights.detach().requires_grad_()
    result = torch.nn.functional.conv2d(images, weights, padding=1)
    return (result.detach(), *torch.autograd.grad(result, (images, weights), gradient))


def worst(ratio: torch.Tensor) -> float:
    """The largest element; infinity when any is not a number, so that no test passes it."""
    value = float(ratio.max())
    return value if value == value else float("inf")


def random(
    shape: tuple[int, ...], device: torch.device, dtype: torch.dtype, seed: int = 0
) -> torch.Tensor:
    """Normal random numbers; the same seed gives the same ones on the same kind of device.

    Random bits cost a GPU more power than zeros do and clock it lower, as real
    work does. An NVIDIA GPU makes its own: a CPU would take seconds for a gigabyte.
    """
    place = device if device.type == "cuda" else CPU
    generator = torch.Generator(device=place).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=place).to(device=device, dtype=dtype)


def _sums(result: torch.Tensor) -> float:
    on_apple = result.device.type == "mps" and result.dtype == torch.float16
    return _IN_FP16 if on_apple else _IN_FP32


def _spread(length: int, device: torch.device) -> torch.Tensor:
    """Up to 64 places, evenly spread over `length`, its first and last among them."""
    count = min(64, length)
    places = [index * (length - 1) // max(1, count - 1) for index in range(count)]
    return torch.tensor(places, device=device)
