"""The checks of the smoke test that compute something on the device.

Each takes the device and returns a sentence about what it found, or raises a
finding. Results are compared with exact values, or with float64 on the CPU.
"""

from __future__ import annotations

import importlib.util
import math
import os
import re
import shutil
import sys
import sysconfig
import tempfile
import warnings
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from cloudrun.workloads import nvml
from cloudrun.workloads.device import (
    DTYPES,
    float_types,
    free_memory_bytes,
    sum_in_fp32,
    use_tf32,
)
from cloudrun.workloads.findings import WRONG_NUMBERS, Failure, Skip
from cloudrun.workloads.measure import keep_busy
from cloudrun.workloads.numerics import convolution_error, convolve, matmul_error, random, worst
from cloudrun.workloads.symptoms import DOCTOR

MIB = 2**20
BLOCK = 64 * MIB


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
        if _runs(arch, (major, minor)):
            how = "can compile" if arch.startswith("compute") else "has"
            return f"The GPU is of generation {major}.{minor}; torch {how} code for it ({arch})."
    raise Failure(
        f"The GPU is of generation {major}.{minor}, and this torch has code only for "
        + (", ".join(built) or "none")
        + ".",
        DOCTOR,
    )


def _runs(arch: str, gpu: tuple[int, int]) -> bool:
    """Whether a GPU runs code for `arch`: "sm_86" machine code, "compute_90" PTX.

    An "a" at the end ("sm_90a") means this very version only, an "f" ("sm_100f")
    this generation only (CUDA C++ Programming Guide, "Compute Capabilities").
    """
    parts = re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", arch)
    if parts is None:
        return False
    version = (int(parts[2]), int(parts[3]))
    if parts[4] == "a":
        return version == gpu
    if parts[1] == "compute" and not parts[4]:
        return version <= gpu
    return version[0] == gpu[0] and version[1] <= gpu[1]


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
    sum_in_fp32()
    for name in float_types(device):
        use_tf32(name == "tf32")
        a = random((size, size), device, DTYPES[name])
        b = random((size, size + 64), device, DTYPES[name], seed=1)
        error = matmul_error(a, b, a @ b, name)
        use_tf32(False)
        if error > 1:
            raise Failure(
                f"A matrix product in {name} is off by {error:.3g} times what rounding allows.",
                WRONG_NUMBERS,
            )
    return "Matrix products agree with float64: " + ", ".join(float_types(device)) + "."


def check_convolution(device: torch.device) -> str:
    """A convolution, forwards and backwards, agrees with float64 on the CPU."""
    use_tf32(False)
    images = random((2, 8, 16, 16), device, torch.float32)
    weights = random((16, 8, 3, 3), device, torch.float32, seed=1)
    gradient = random((2, 16, 16, 16), device, torch.float32, seed=2)
    found = convolve(images, weights, gradient)
    error = convolution_error(images, weights, gradient, found, "fp32")
    if error > 1:
        raise Failure(
            f"A convolution is off by {error:.3g} times what rounding allows.", WRONG_NUMBERS
        )
    return f"A convolution agrees with float64, forwards and backwards{_cudnn(device)}."


def _cudnn(device: torch.device) -> str:
    return f" (cuDNN {torch.backends.cudnn.version()})" if device.type == "cuda" else ""


def check_attention(device: torch.device) -> str:
    """Scaled dot-product attention agrees with its formula in float64."""
    query, key, value = (
        random((1, 4, 64, 32), device, torch.float32, seed=seed) for seed in range(3)
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
    make_scaler = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler
    # A scale at which nothing overflows: by default the first steps may, and are left out.
    scaler = make_scaler(init_scale=1024.0, enabled=device.type == "cuda")
    inputs = random((64, 32), device, torch.float32)
    target = inputs.sum(dim=1, keepdim=True)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        with _autocast(device, small):
            output = model(inputs)
        loss = torch.nn.functional.mse_loss(output.float(), target)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss.detach()))
    if not (all(map(math.isfinite, losses)) and losses[-1] < losses[0]):
        raise Failure(
            f"Training in mixed precision does not learn: its loss went {losses}.", WRONG_NUMBERS
        )
    return f"Five steps in mixed precision lower a loss from {losses[0]:.1f} to {losses[-1]:.1f}."


def _autocast(device: torch.device, dtype: torch.dtype) -> Any:
    try:
        return torch.autocast(device.type, dtype=dtype)
    except RuntimeError as error:
        # torch before 2.5 has no mixed precision for MPS, and says so here.
        raise Skip(f"This torch has no mixed precision for '{device.type}'.") from error


def check_memory(device: torch.device) -> str:
    """What is written to memory is read back: 90% of a GPU's, 256 MiB of the machine's."""
    count = max(1, _memory_to_check(device) // BLOCK)
    wrong = _wrong_numbers(count, device)
    if device.type == "cuda":
        # torch would keep it all, and the next checks' processes need some.
        torch.cuda.empty_cache()
    if wrong:
        raise Failure(f"{wrong} of the numbers written to memory came back changed.", WRONG_NUMBERS)
    return f"{count * BLOCK // MIB} MiB of memory keep what is written to them."


def _wrong_numbers(count: int, device: torch.device) -> int:
    """Write so many blocks, then read them all; how many numbers came back changed."""
    blocks = [_pattern(number, device) for number in range(count)]
    return sum(
        int((block != _pattern(number, device)).sum()) for number, block in enumerate(blocks)
    )


def _memory_to_check(device: torch.device) -> int:
    """How many bytes to fill; of a GPU's, enough stays free to compare one block."""
    free = free_memory_bytes(device)
    if device.type == "cuda" and free:
        return min(int(0.9 * free), free - 4 * BLOCK)
    return min(256 * MIB, (free or MIB) // 2)


def _pattern(number: int, device: torch.device) -> torch.Tensor:
    """A block of integers, other ones for each `number`, in which most bits change all the time."""
    return torch.arange(number, number + BLOCK // 8, device=device).mul_(2654435761)


def check_health(device: torch.device) -> str:
    """The GPU has found no memory errors that it could not correct, or has replaced the memory."""
    with nvml.open_device(device) as gpu:
        if gpu is None:
            raise Skip("NVIDIA's management library (NVML) does not answer here.")
        errors, ever = gpu.uncorrected_errors(), gpu.uncorrected_errors(ever=True)
        worn_out = gpu.is_out_of_spare_memory()
    remedy = "Do not trust results from this GPU; use another machine."
    if worn_out:
        raise Failure("The GPU has faulty memory that it could not replace.", remedy)
    if errors:
        raise Failure(
            f"The GPU has found {errors} memory errors that it could not correct.", remedy
        )
    if errors is None:
        return "This GPU does not count memory errors."
    before = f" since its driver was loaded, but {ever} before" if ever else ""
    return f"The GPU has found no memory error that it could not correct{before}."


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
            _spawn((world, backend, meeting), world)
    return f"A sum over {world} process(es) with {backend} is right."


def _spawn(arguments: tuple[Any, ...], world: int) -> None:
    """Run one process for each GPU; an error in one of them is ours."""
    try:
        torch.multiprocessing.spawn(_sum_over_processes, args=arguments, nprocs=world)
    except torch.multiprocessing.ProcessRaisedException as error:
        # Its text is the other process's traceback; the last paragraph's first line says it.
        lines = [line for line in str(error).splitlines() if line and not line[0].isspace()]
        raise RuntimeError("\n".join(lines[2:]) or str(error)) from error


def _sum_over_processes(rank: int, world: int, backend: str, meeting: str) -> None:
    torch.distributed.init_process_group(backend, init_method=meeting, rank=rank, world_size=world)
    try:
        place = torch.device("cpu")
        if backend == "nccl":
            place = torch.device("cuda", rank)
            torch.cuda.set_device(place)
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
    try:
        compiled = torch.compile(small)
    except RuntimeError as error:
        # Each version of torch knows Pythons and systems that it cannot do this for.
        raise Skip(f"torch.compile cannot be used here: {error}.".replace("..", ".")) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compiled(x)
    off = worst((found - small(x)).abs().cpu())
    if off > 1e-5:
        raise Failure(f"A compiled function differs by {off:.3g} from itself.", WRONG_NUMBERS)
    return "A function compiled by torch.compile gives what it gave before."


def _no_compiler(device: torch.device) -> str:
    """Why torch.compile cannot work here, or nothing."""
    headers = os.path.join(sysconfig.get_paths()["include"], "Python.h")
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (7, 0):
        return "the GPU is older than its compiler supports"
    if device.type == "cuda" and not importlib.util.find_spec("triton"):
        return "triton is not installed"
    if sys.platform == "win32":
        return "" if device.type == "cuda" or shutil.which("cl") else "there is no C++ compiler"
    # On a GPU only the code that starts the kernels is made by a compiler for C.
    names = ("CC", "gcc", "clang") if device.type == "cuda" else ("CXX", "g++", "clang++")
    if not any(shutil.which(name) for name in (os.environ.get(names[0], ""), *names[1:]) if name):
        return "there is no C++ compiler"
    return "" if os.path.exists(headers) else "Python's header files are missing"


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
        # The way of exporting that needs onnxscript; older versions of torch have only another.
        new = {"dynamo": True} if torch.__version__ >= "2.6" else {}
        torch.onnx.export(model, (inputs,), path, **new)
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
    """What holds the GPU back under load: power, heat, a narrow link."""
    with nvml.open_device(device) as gpu:
        if gpu is None:
            raise Skip("NVIDIA's management library (NVML) does not answer here.")
        # An idle GPU slows its clock and its link down, so it is asked while it works.
        with nvml.Watch(gpu) as watch:
            keep_busy(device, 1.0)
        link, is_told = gpu.link(), gpu.throttle_reasons() is not None
    reasons = watch.summary()["throttled_by"]
    if not is_told:
        return f"The GPU does not tell what holds it back; {link}."
    return f"The GPU is held back by {', '.join(reasons) or 'nothing'}; {link}."
