"""The checks of the smoke test that compute something on the device.

Each takes the device and returns a sentence about what it found, or raises a
finding. Results are compared with exact values, or with float64 on the CPU.
"""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import sys
import tempfile
import warnings
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from cloudrun.workloads import nvml
from cloudrun.workloads.device import DTYPES, float_types, free_memory_bytes, use_tf32
from cloudrun.workloads.findings import Failure, Skip
from cloudrun.workloads.numerics import matmul_error, random, worst
from cloudrun.workloads.symptoms import DOCTOR

WRONG_NUMBERS = "Do not trust results from this device; run the test again, then use another one."
MIB = 2**20


def check_architecture(device: torch.device) -> str:
    """This build of torch has code for the GPU's generation.

    Code for an older minor version of the same generation runs too (8.9 runs
    8.6's), and PTX of any version up to the GPU's can be compiled on the spot.
    """
    if torch.version.hip:
        raise Skip("AMD's GPUs are not told apart by this check.")
    major, minor = torch.cuda.get_device_capability(device)
    built = torch.cuda.get_arch_list()
    for arch in built:
        kind, _, digits = arch.partition("_")
        number = int("".join(filter(str.isdigit, digits)))
        version = (number // 10, number % 10)
        if kind == "compute" and version <= (major, minor):
            return f"The GPU is of generation {major}.{minor}; torch can compile code for it."
        if kind == "sm" and version[0] == major and version[1] <= minor:
            return f"The GPU is of generation {major}.{minor}; torch has code for it ({arch})."
    raise Failure(
        f"The GPU is of generation {major}.{minor}, and this torch has code only for "
        + ", ".join(built)
        + ".",
        DOCTOR,
    )


def check_allocate(device: torch.device) -> str:
    """Memory can be had on the device and a first sum is right."""
    ones = torch.ones(1_000_000, device=device)
    total = float((ones + ones).sum())
    if total != 2_000_000:
        raise Failure(f"A million times 1 + 1 gave {total}, not 2000000.", WRONG_NUMBERS)
    return "A million times 1 + 1 is 2000000."


def check_autograd(device: torch.device) -> str:
    """1 + 1/2 + 1/4 + ... = 2, and its derivative is 4, to the last bit.

    Horner's rule for 1 + x + x^2 + ... + x^20 at x = 1/2: every step is exact
    in float32, so the sum 2 - 2^-20 and the derivative 4 - 22 * 2^-19 must come
    out exactly, whatever the device.
    """
    steps = 20
    x = torch.tensor(0.5, device=device, requires_grad=True)
    series = torch.ones((), device=device)
    for _ in range(steps):
        series = 1 + x * series
    series.backward()  # type: ignore[no-untyped-call, unused-ignore]
    gradient = x.grad
    assert gradient is not None  # noqa: S101 - for the type checker
    expected = (2 - 2.0**-steps, 4 - (steps + 2) * 2.0 ** -(steps - 1))
    found = (float(series.detach()), float(gradient))
    if found != expected:
        raise Failure(
            f"1 + 1/2 + 1/4 + ... gave {found[0]!r} with derivative {found[1]!r}; "
            f"exactly {expected[0]!r} and {expected[1]!r} are right.",
            WRONG_NUMBERS,
        )
    return f"1 + 1/2 + 1/4 + ... = {found[0]:.6f} (towards 2), its derivative {found[1]:.6f} (4)."


def check_matmul(device: torch.device) -> str:
    """Matrix products are right in every float type that the device is fast in."""
    size = 256
    for name in float_types(device):
        use_tf32(name == "tf32")
        a = random((size, size), device, DTYPES[name])
        b = random((size, size + 64), device, DTYPES[name])
        error = matmul_error(a, b, a @ b, name)
        if error > 1:
            raise Failure(
                f"A matrix product in {name} is off by {error:.3g} times what rounding allows.",
                WRONG_NUMBERS,
            )
    use_tf32(False)
    return "Matrix products agree with float64: " + ", ".join(float_types(device)) + "."


def check_convolution(device: torch.device) -> str:
    """A convolution, forwards and backwards, agrees with float64 on the CPU."""
    use_tf32(False)
    images = random((2, 8, 16, 16), torch.device("cpu"), torch.float32)
    weights = random((16, 8, 3, 3), torch.device("cpu"), torch.float32)
    found = _convolve(images.to(device), weights.to(device))
    exact = _convolve(images.double(), weights.double())
    # Each result sums at most 2 * 16 * 16 products of normal numbers.
    allowed = 2 * 16 * 16 * 2.0**-24 * 16
    for name, is_value, ought in zip(("result", "gradient", "gradient"), found, exact):
        error = worst((is_value.cpu().double() - ought).abs() / allowed)
        if error > 1:
            raise Failure(
                f"A convolution's {name} is off by {error:.3g} times what rounding allows.",
                WRONG_NUMBERS,
            )
    return f"A convolution agrees with float64, forwards and backwards{_cudnn(device)}."


def _convolve(images: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    images, weights = images.requires_grad_(), weights.requires_grad_()
    result = torch.nn.functional.conv2d(images, weights, padding=1)
    gradients = torch.autograd.grad(result.square().sum() / result.numel(), (images, weights))
    return [result.detach(), *gradients]


def _cudnn(device: torch.device) -> str:
    return f" (cuDNN {torch.backends.cudnn.version()})" if device.type == "cuda" else ""


def check_attention(device: torch.device) -> str:
    """Scaled dot-product attention agrees with its formula in float64."""
    query, key, value = (
        random((1, 4, 64 + extra, 32), device, torch.float32)[:, :, :64] for extra in range(3)
    )
    found = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    query, key, value = (part.cpu().double() for part in (query, key, value))
    weights = torch.softmax(query @ key.transpose(-2, -1) / math.sqrt(32), dim=-1)
    error = worst((found.cpu().double() - weights @ value).abs())
    if error > 1e-4:
        raise Failure(f"Attention is off by {error:.3g}, where 0.0001 is allowed.", WRONG_NUMBERS)
    return "Attention agrees with its formula in float64."


def check_mixed_precision(device: torch.device) -> str:
    """A few training steps in mixed precision change the weights and lower the loss."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
    ).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    small = torch.bfloat16 if device.type == "cpu" else torch.float16
    make_scaler = getattr(torch.amp, "GradScaler", torch.cuda.amp.GradScaler)
    scaler = make_scaler(enabled=device.type == "cuda")
    inputs = random((64, 32), device, torch.float32)
    target = inputs.sum(dim=1, keepdim=True)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=small):
            output = model(inputs)
        loss = torch.nn.functional.mse_loss(output.float(), target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss))
    if not (all(map(math.isfinite, losses)) and losses[-1] < losses[0]):
        raise Failure(
            f"Training in mixed precision does not learn: its loss went {losses}.", WRONG_NUMBERS
        )
    return f"Five steps in mixed precision lower a loss from {losses[0]:.1f} to {losses[-1]:.1f}."


def check_memory(device: torch.device) -> str:
    """What is written to memory is read back: 90% of a GPU's, 256 MiB of the machine's."""
    free = free_memory_bytes(device)
    bulk = int(0.9 * free) if device.type == "cuda" and free else min(256 * MIB, (free or MIB) // 2)
    block = 64 * MIB // 8
    blocks = [
        torch.arange(number, number + block, device=device)
        for number in range(max(1, bulk // (block * 8)))
    ]
    wrong = 0
    for number, written in enumerate(blocks):
        wrong += int((written != torch.arange(number, number + block, device=device)).sum())
    if wrong:
        raise Failure(f"{wrong} of the numbers written to memory came back changed.", WRONG_NUMBERS)
    return f"{len(blocks) * 64} MiB of memory keep what is written to them."


def check_health(device: torch.device) -> str:
    """The GPU has found no memory errors that it could not correct."""
    with nvml.open_device(device) as gpu:
        if gpu is None:
            raise Skip("NVIDIA's management library (NVML) does not answer here.")
        errors = gpu.uncorrected_errors()
    if errors is None:
        return "This GPU does not count memory errors."
    if errors:
        raise Failure(
            f"The GPU has found {errors} memory errors that it could not correct.",
            "Do not trust results from this GPU; use another machine.",
        )
    return "The GPU has found no memory error that it could not correct."


def check_distributed(device: torch.device) -> str:
    """A sum over processes works: one for each GPU, over NCCL, or one over gloo."""
    if not torch.distributed.is_available():
        raise Skip("This build of torch has no torch.distributed.")
    cuda = device.type == "cuda"
    backend = "nccl" if cuda and torch.distributed.is_nccl_available() else "gloo"
    world = torch.cuda.device_count() if backend == "nccl" else 1
    with tempfile.TemporaryDirectory() as folder:
        meeting = "file:///" + os.path.join(folder, "meeting").replace(os.sep, "/").lstrip("/")
        if world == 1:
            _sum_over_processes(0, world, backend, meeting)
        else:
            torch.multiprocessing.spawn(
                _sum_over_processes, args=(world, backend, meeting), nprocs=world
            )
    return f"A sum over {world} process(es) with {backend} is right."


def _sum_over_processes(rank: int, world: int, backend: str, meeting: str) -> None:
    torch.distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=world)
    try:
        place = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
        value = torch.full((1000,), float(rank + 1), device=place)
        torch.distributed.all_reduce(value)
        expected = world * (world + 1) / 2
        if not bool((value == expected).all()):
            raise Failure(
                f"A sum over {world} processes gave {float(value[0])}, not {expected}.",
                WRONG_NUMBERS,
            )
    finally:
        torch.distributed.destroy_process_group()


def check_compile(device: torch.device) -> str:
    """torch.compile makes a small function faster code with the same result."""
    reason = _no_compiler(device)
    if reason:
        raise Skip(f"torch.compile cannot be used here: {reason}. Nothing else needs it.")

    def small(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x.sin() + x * 0.5)

    x = random((1000,), device, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = torch.compile(small)(x)
    error = worst((found - small(x)).abs().cpu())
    if error > 1e-5:
        raise Failure(f"A compiled function differs by {error:.3g} from itself.", WRONG_NUMBERS)
    return "A function compiled by torch.compile gives what it gave before."


def _no_compiler(device: torch.device) -> str:
    """Why torch.compile cannot work here, or nothing."""
    if sys.version_info >= (3, 14) and torch.__version__ < "2.10":
        return "this torch does not support it on Python 3.14"
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) < (7, 0):
            return "the GPU is older than its compiler supports"
        return "" if importlib.util.find_spec("triton") else "triton is not installed"
    compilers = (os.environ.get("CXX"), "g++", "clang++", "cl")
    found = any(name and shutil.which(name) for name in compilers)
    return "" if found else "there is no C++ compiler"


def check_onnx(device: torch.device) -> str:  # noqa: ARG001 - every check has the same form
    """A model exported to ONNX gives the same numbers, where the tools for it are installed."""
    missing = [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]
    if missing:
        raise Skip(
            f"ONNX export needs {' and '.join(missing)}, not installed here.",
            "Run 'pip install onnx onnxscript onnxruntime' if you want it checked.",
        )
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()).eval()
    inputs = random((3, 8), torch.device("cpu"), torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        torch.onnx.export(model, (inputs,), path, dynamo=True)
        if not importlib.util.find_spec("onnxruntime"):
            return "A small model can be exported to ONNX."
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        found = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]
    error = worst((torch.from_numpy(found) - model(inputs).detach()).abs())
    if error > 1e-5:
        raise Failure(f"A model exported to ONNX is off by {error:.3g}.", WRONG_NUMBERS)
    return "A model exported to ONNX gives the same numbers in onnxruntime."


class _Squares(Dataset[Any]):
    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(index * index)


def check_dataloader(device: torch.device) -> str:  # noqa: ARG001 - every check has the same form
    """Two worker processes deliver a data set whole and in order, through shared memory."""
    batches = list(DataLoader(_Squares(), batch_size=8, num_workers=2))
    found = torch.cat(batches).tolist()
    if found != [index * index for index in range(64)]:
        raise Failure("Two data loader workers lost data or mixed it up.", WRONG_NUMBERS)
    return "Two data loader workers deliver every sample, in order."


def check_clocks(device: torch.device) -> str:
    """What holds the GPU back at this moment: power, heat, a narrow link."""
    with nvml.open_device(device) as gpu:
        if gpu is None:
            raise Skip("NVIDIA's management library (NVML) does not answer here.")
        reasons = gpu.throttle_reasons()
        link = gpu.link()
    held = f"held back by {', '.join(reasons)}" if reasons else "held back by nothing"
    return f"The GPU is {held}; {link}."
