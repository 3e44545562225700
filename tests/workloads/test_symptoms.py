"""Each well-known message, as torch or the driver words it, gives the right sentence."""

from __future__ import annotations

import pytest

from cloudrun.workloads.symptoms import DOCTOR, explain

# A message as users see it; a part of the sentence; a part of the remedy.
MESSAGES = [
    (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure "
        "that the latest NVIDIA driver is installed and running.",
        "installed but not loaded",
        "Restart",
    ),
    ("nvidia-smi: command not found", "no driver for it", "--gpus all"),
    (
        "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.161",
        "updated while its old version",
        "Restart",
    ),
    (
        "Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost.",
        "no longer answers",
        "another one",
    ),
    ("Unable to determine the device handle for GPU0: Unknown Error", "no longer answers", ""),
    ("No devices were found", "finds no GPU", "Restart"),
    ("RuntimeError: No CUDA GPUs are available", "CUDA_VISIBLE_DEVICES", "unset"),
    (
        "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA "
        "GPU and installed a driver from http://www.nvidia.com/Download/index.aspx",
        "finds no NVIDIA driver",
        "Install NVIDIA's driver",
    ),
    (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12080). Please "
        "update your GPU driver by downloading and installing a new version",
        "older than this build of torch needs",
        DOCTOR,
    ),
    ("AssertionError: Torch not compiled with CUDA enabled", "built without CUDA", DOCTOR),
    (
        "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the "
        "device\nCUDA kernel errors might be asynchronously reported at some other API call",
        "no code for this GPU's generation",
        DOCTOR,
    ),
    ("RuntimeError: CUDA error: invalid device function", "no code for this GPU's", DOCTOR),
    (
        "RuntimeError: CUDA error: the provided PTX was compiled with an unsupported toolchain.",
        "older than the CUDA version",
        DOCTOR,
    ),
    (
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
        "before calling NumCudaDevices() that might have already set an error? Error 802: system "
        "not yet initialized",
        "fabric manager",
        "nvidia-fabricmanager",
    ),
    (
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has "
        "unsupported display driver / cuda driver combination",
        "do not fit together",
        "Restart",
    ),
    (
        "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 804: forward "
        "compatibility was attempted on non supported HW",
        "do not fit together",
        "driver",
    ),
    (
        "RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment, "
        "e.g. changing env variable CUDA_VISIBLE_DEVICES after program start.",
        "half loaded",
        "nvidia_uvm",
    ),
    ("CUDA error: uncorrectable ECC error encountered", "memory is faulty", "another machine"),
    (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
        "capacity of 14.58 GiB of which 1.19 GiB is free.",
        "not enough free memory; another program",
        "nvidia-smi",
    ),
    (
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "not enough free memory; another program",
        "nvidia-smi",
    ),
    (
        "RuntimeError: MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1 GB)",
        "not enough free memory.",
        "Close other programs",
    ),
    (
        "RuntimeError: [enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't "
        "allocate memory: you tried to allocate 8589934592 bytes.",
        "not enough free memory.",
        "Close other programs",
    ),
    ("MemoryError: ", "not enough free memory.", "Close other programs"),
    (
        "RuntimeError: cuDNN error: CUDNN_STATUS_SUBLIBRARY_VERSION_MISMATCH",
        "Another cuDNN",
        "unset LD_LIBRARY_PATH",
    ),
    (
        "RuntimeError: cuDNN version incompatibility: PyTorch was compiled  against (8, 5, 0) but "
        "found runtime version (8, 1, 0).",
        "Another cuDNN",
        "unset LD_LIBRARY_PATH",
    ),
    (
        "RuntimeError: DataLoader worker (pid 42) is killed by signal: Bus error. It is possible "
        "that dataloader's workers are out of shared memory.",
        "is too small",
        "--shm-size",
    ),
    (
        "torch.distributed.DistBackendError: NCCL error: unhandled system error\nError while "
        "creating shared memory segment /dev/shm/nccl-abc (size 9637888)",
        "is too small",
        "--shm-size",
    ),
    (
        "torch.distributed.DistBackendError: NCCL error in: NCCLUtils.cpp:77, unhandled system "
        "error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.7\nncclSystemError",
        "could not talk to each other",
        "NCCL_DEBUG",
    ),
    ("CUDA error: device-side assert triggered", "program on the GPU crashed", "BLOCKING"),
    ("CUDA error: an illegal memory access was encountered", "program on the GPU crashed", ""),
    (
        "torch._inductor.exc.InductorError: RuntimeError: Failed to find C compiler. Please "
        "specify via CC environment variable or set triton.knobs.build.impl.",
        "no C compiler",
        "build-essential",
    ),
    ("fatal error: Python.h: No such file or directory", "header files", "python3-dev"),
]


@pytest.mark.parametrize(("message", "meaning", "remedy"), MESSAGES)
def test_a_known_message_is_explained(message: str, meaning: str, remedy: str) -> None:
    found = explain(message)
    assert meaning in found[0]
    assert remedy in found[1]
    assert found[1]


@pytest.mark.parametrize(
    "message",
    [
        # Has nothing to do with /dev/shm.
        "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072",
        "ValueError: optimizer got an empty parameter list",
    ],
)
def test_an_unknown_message_is_given_as_it_is(message: str) -> None:
    assert explain(f"\n  {message}\nmore of it") == (message, "")


def test_an_unknown_message_is_cut_and_an_empty_one_is_named() -> None:
    assert explain("x" * 1000) == ("x" * 300, "")
    assert explain(" \n ") == ("no message", "")


def test_every_sentence_ends_and_no_remedy_is_missing() -> None:
    for message, _, _ in MESSAGES:
        meaning, remedy = explain(message)
        assert meaning.endswith(".")
        assert remedy.endswith(".")
