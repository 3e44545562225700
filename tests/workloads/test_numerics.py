"""The tolerances: right results pass, and results that are subtly wrong do not."""

from __future__ import annotations

import math

import pytest
import torch

from cloudrun.workloads.numerics import (
    ROUNDING,
    convolution_error,
    convolve,
    matmul_error,
    random,
    worst,
)

pytestmark = pytest.mark.xdist_group("torch")
CPU = torch.device("cpu")
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def to_tf32(x: torch.Tensor, cut: bool = False) -> torch.Tensor:
    """Round to TF32's 10 bits after the point, or cut the others off, as the hardware does."""
    bits = x.view(torch.int32)
    return ((bits if cut else bits + 0x1000) & ~0x1FFF).view(torch.float32)


def product(a: torch.Tensor, b: torch.Tensor, dtype: str) -> torch.Tensor:
    """A right product: multiplied and summed in fp32, rounded to the format at the end."""
    if dtype == "tf32":
        return to_tf32(a) @ to_tf32(b)
    return (a.float() @ b.float()).to(a.dtype)


def operands(k: int, dtype: str, m: int = 128) -> tuple[torch.Tensor, torch.Tensor]:
    kind = TYPES.get(dtype, torch.float32)
    return random((m, k), CPU, kind, seed=3), random((k, m), CPU, kind, seed=4)


@pytest.mark.parametrize("k", [1, 64, 256, 2048, 8192])
@pytest.mark.parametrize("dtype", ["fp32", "tf32", "fp16", "bf16"])
def test_a_right_product_passes_with_room_to_spare(k: int, dtype: str) -> None:
    a, b = operands(k, dtype)
    assert matmul_error(a, b, product(a, b, dtype), dtype) < 0.6


@pytest.mark.parametrize("k", [64, 8192])
def test_sums_term_by_term_pass(k: int) -> None:
    a, b = operands(k, "fp32", m=64)
    c = torch.zeros(64, 64)
    for term in range(k):
        c += a[:, term : term + 1] * b[term]
    assert matmul_error(a, b, c, "fp32") < 0.6


@pytest.mark.parametrize("dtype", ["tf32", "fp16", "bf16"])
def test_sums_that_cut_instead_of_rounding_pass_as_tensor_cores_make_them(dtype: str) -> None:
    k, block = 8192, 8
    a, b = operands(k, dtype, m=64)
    left, right = (to_tf32(a, cut=True), to_tf32(b, cut=True)) if dtype == "tf32" else (a, b)
    c = torch.zeros(64, 64, dtype=torch.float64)
    for at in range(0, k, block):
        c += left[:, at : at + block].double() @ right[at : at + block].double()
        unit = torch.exp2(torch.frexp(c).exponent.double() - 24)
        c = torch.trunc(c / unit) * unit
    assert matmul_error(a, b, c.to(a.dtype), dtype) < 0.6


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("k", [64, 256, 1024, 8192])
def test_tf32_does_not_pass_for_fp32(k: int, cut: bool) -> None:
    a, b = operands(k, "fp32")
    assert matmul_error(a, b, to_tf32(a, cut) @ to_tf32(b, cut), "fp32") > 5


@pytest.mark.parametrize("k", [64, 8192])
def test_bf16_does_not_pass_for_fp16_nor_for_tf32(k: int) -> None:
    a, b = operands(k, "fp32")
    c = (a.bfloat16().float() @ b.bfloat16().float()).bfloat16()
    assert matmul_error(a, b, c.half(), "fp16") > 1
    assert matmul_error(a, b, c.float(), "tf32") > 1


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_sums_in_the_small_format_do_not_pass(dtype: str) -> None:
    k = 2048
    a, b = operands(k, dtype, m=64)
    c = torch.zeros(64, 64, dtype=a.dtype)
    for term in range(k):
        c = (c.float() + a[:, term : term + 1].float() * b[term].float()).to(a.dtype)
    assert matmul_error(a, b, c, dtype) > 1


@pytest.mark.parametrize("k", [256, 2048, 8192])
@pytest.mark.parametrize(
    ("dtype", "off"), [("fp32", 0.001), ("tf32", 0.02), ("fp16", 0.01), ("bf16", 0.05)]
)
def test_one_element_that_is_off_by_a_little_is_found(k: int, dtype: str, off: float) -> None:
    # In parts of the size that a sum of k random products has.
    a, b = operands(k, dtype, m=64)
    c = product(a, b, dtype).float()
    c[17, 42] += off * math.sqrt(k)
    assert matmul_error(a, b, c.to(a.dtype), dtype) > 1


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_lost_block_of_terms_is_found(dtype: str) -> None:
    # What a kernel does that forgets the last rows of its inputs.
    a, b = operands(2048, dtype)
    assert matmul_error(a, b, product(a[:, :-16], b[:-16], dtype), dtype) > 1


def test_the_product_of_swapped_operands_is_found() -> None:
    a, b = operands(256, "fp32", m=256)
    assert matmul_error(a, b, product(b, a, "fp32"), "fp32") > 1
    assert matmul_error(a, b, product(a, b, "fp32").t(), "fp32") > 1


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_every_corner_of_a_large_product_is_looked_at(corner: tuple[int, int]) -> None:
    a, b = operands(64, "fp32", m=500)
    c = product(a, b, "fp32")
    c[corner] += 0.01
    assert matmul_error(a, b, c, "fp32") > 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_never_passes(value: float) -> None:
    a, b = operands(64, "fp32")
    c = product(a, b, "fp32")
    c[0, 0] = value
    assert matmul_error(a, b, c, "fp32") == float("inf")
    assert worst(torch.tensor([0.1, value])) == float("inf") or value < 0


def convolution(
    dtype: str, batch: int = 4, channels: int = 16, side: int = 14
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    kind = TYPES[dtype]
    images = random((batch, channels, side, side), CPU, kind, seed=5)
    weights = (random((channels, channels, 3, 3), CPU, torch.float32, seed=6) / 12).to(kind)
    return images, weights, random((batch, channels, side, side), CPU, kind, seed=7)


def right(parts: tuple[torch.Tensor, ...], dtype: str) -> tuple[torch.Tensor, ...]:
    return tuple(part.to(TYPES[dtype]) for part in convolve(*(part.float() for part in parts)))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_a_right_convolution_passes(dtype: str) -> None:
    parts = convolution(dtype)
    assert convolution_error(*parts, right(parts, dtype), dtype) < 0.3


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(("dtype", "off"), [("fp32", 0.002), ("fp16", 0.03), ("bf16", 0.15)])
def test_one_wrong_number_in_a_result_or_a_gradient_is_found(
    which: int, dtype: str, off: float
) -> None:
    parts = convolution(dtype)
    found = [part.float() for part in right(parts, dtype)]
    # In parts of the size that these numbers have.
    found[which][0, 1, 2, 2] += off * float(found[which].std())
    found_in_format = tuple(part.to(TYPES[dtype]) for part in found)
    assert convolution_error(*parts, found_in_format, dtype) > 1


def test_a_convolution_in_tf32_does_not_pass_for_fp32() -> None:
    parts = convolution("fp32")
    found = convolve(*map(to_tf32, parts))
    assert convolution_error(*parts, found, "fp32") > 1


def test_a_convolution_by_winograds_algorithm_passes_as_fp32() -> None:
    """cuDNN's choice for 3 x 3: F(2 x 2, 3 x 3), which loses more than a plain sum does."""
    images, weights, gradient = convolution("fp32")
    found = right((images, weights, gradient), "fp32")
    error = convolution_error(
        images, weights, gradient, (winograd(images, weights), *found[1:]), "fp32"
    )
    assert error < 0.3


def winograd(images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """A 3 x 3 convolution, padded by 1, in tiles of 2 x 2 (A. Lavin and S. Gray, 2015)."""
    into = torch.tensor([[1.0, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    of_weights = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    out = torch.tensor([[1.0, 1, 1, 0], [0, 1, -1, -1]])
    batch, _, height, width = images.shape
    tiles = torch.nn.functional.pad(images, (1, 1, 1, 1)).unfold(2, 4, 2).unfold(3, 4, 2)
    spread = torch.einsum("ij,bchwjk,lk->bchwil", into, tiles, into)
    kernels = torch.einsum("ij,ocjk,lk->ocil", of_weights, weights, of_weights)
    products = torch.einsum("bchwil,ocil->bohwil", spread, kernels)
    result = torch.einsum("ij,bohwjk,lk->bohwil", out, products, out)
    return result.permute(0, 1, 2, 4, 3, 5).reshape(batch, -1, height, width)


def test_random_numbers_are_the_same_each_time_and_others_by_seed() -> None:
    first = random((50, 50), CPU, torch.float32)
    assert torch.equal(first, random((50, 50), CPU, torch.float32))
    assert not torch.equal(first, random((50, 50), CPU, torch.float32, seed=1))
    assert abs(float(first.std()) - 1) < 0.1


def test_the_rounding_of_each_format_is_half_a_unit() -> None:
    for name, kind in TYPES.items():
        assert ROUNDING[name] == torch.finfo(kind).eps / 2
