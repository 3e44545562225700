"""What well-known error messages of drivers and torch mean, and what to do about them.

Most learners meet one of these on their first day, as a page of traceback.
The texts are NVIDIA's and PyTorch's own; the list comes from their issue
trackers and the users' forums.
"""

from __future__ import annotations

import re

DOCTOR = "Run 'cloudrun doctor': it prints the install line that fits this machine."

# Pattern in the message, what it means, what to do. The first that matches counts.
_KNOWN = [
    (
        r"couldn't communicate with the NVIDIA driver",
        "The NVIDIA driver is installed but not loaded; a kernel update or Secure Boot does that.",
        "Restart the machine once; if that does not help, install the driver again.",
    ),
    (
        r"nvidia-smi: command not found",
        "There is an NVIDIA GPU here but no driver for it.",
        "Install NVIDIA's driver and restart the machine; a container, start with '--gpus all'.",
    ),
    (
        r"Driver/library version mismatch",
        "The NVIDIA driver was updated while its old version is still running.",
        "Restart the machine.",
    ),
    (
        r"GPU is lost|fallen off the bus|Unable to determine the device handle",
        "The GPU no longer answers: it has crashed, or it is faulty.",
        "Restart the machine; if it happens again, use another one.",
    ),
    (
        r"No devices were found",
        "The NVIDIA driver is loaded but finds no GPU that it can use.",
        "Restart the machine; if that does not help, install the driver again.",
    ),
    (
        r"No CUDA GPUs are available",
        "torch sees none of the GPUs; the variable CUDA_VISIBLE_DEVICES may hide them.",
        "Run 'unset CUDA_VISIBLE_DEVICES' and try again.",
    ),
    (
        r"Found no NVIDIA driver",
        "torch finds no NVIDIA driver on this machine.",
        "Install NVIDIA's driver and restart the machine.",
    ),
    (
        r"driver on your system is too old",
        "The NVIDIA driver is older than this build of torch needs.",
        DOCTOR,
    ),
    (
        r"not compiled with CUDA enabled",
        "This torch was built without CUDA, so it cannot use the GPU.",
        DOCTOR,
    ),
    (
        r"no kernel image is available|invalid device function|"
        r"is not compatible with the current PyTorch",
        "This build of torch has no code for this GPU's generation.",
        DOCTOR,
    ),
    (
        r"unsupported toolchain",
        "The NVIDIA driver is older than the CUDA version torch was built with.",
        DOCTOR,
    ),
    (
        r"system not yet initialized|Error 802",
        "The GPUs' switch is not ready: NVIDIA's fabric manager is missing, starting, or of "
        "another version than the driver.",
        "Wait a minute; then look at 'systemctl status nvidia-fabricmanager'.",
    ),
    (
        r"unsupported display driver / cuda driver combination|forward compatibility",
        "The NVIDIA driver and the CUDA libraries of this machine do not fit together.",
        "Restart the machine; if that does not help, install NVIDIA's driver again.",
    ),
    (
        r"CUDA unknown error",
        "The NVIDIA driver is only half loaded, or a container was started without its GPUs.",
        "Run 'sudo modprobe nvidia_uvm', or start the container with '--gpus all'.",
    ),
    (
        r"uncorrectable ECC error",
        "The GPU's memory is faulty: it found errors that it could not correct.",
        "Do not trust results from this GPU; use another machine.",
    ),
    (
        r"MPS backend out of memory|can't allocate memory|not enough memory|^MemoryError",
        "There was not enough free memory.",
        "Close other programs, or use a machine with more memory.",
    ),
    (
        r"out of memory|ALLOC_FAILED|CUBLAS_STATUS_NOT_INITIALIZED",
        "There was not enough free memory; another program may be using it.",
        "Run 'nvidia-smi' to see who uses the GPU's memory, and end that program.",
    ),
    (
        r"SUBLIBRARY_VERSION_MISMATCH|CUDNN_STATUS_NOT_INITIALIZED|cuDNN version incompatibility",
        "Another cuDNN on this machine hides the one that came with torch.",
        "Run 'unset LD_LIBRARY_PATH' and try again.",
    ),
    (
        r"[Bb]us error|/dev/shm|insufficient shared memory",
        "The shared memory (/dev/shm) is too small, as it is in a container by default.",
        "Start the container with '--shm-size=8g'.",
    ),
    (
        r"ncclSystemError|ncclInternalError|unhandled (system|cuda|internal) error",
        "The GPUs could not talk to each other (NCCL).",
        "Run it again with the variable NCCL_DEBUG=INFO, which says why.",
    ),
    (
        r"device-side assert|illegal memory access|unspecified launch failure",
        "A program on the GPU crashed.",
        "Run it again with the variable CUDA_LAUNCH_BLOCKING=1, which shows where.",
    ),
    (
        r"Failed to find C compiler",
        "There is no C compiler, which torch.compile needs.",
        "Run 'sudo apt install build-essential'.",
    ),
    (
        r"Python\.h",
        "Python's header files are missing, which torch.compile needs.",
        "Run 'sudo apt install python3-dev'.",
    ),
]


def explain(message: str) -> tuple[str, str]:
    """Turn an error message into one plain sentence and a remedy.

    An unknown message is given as it is, its first line only, without a guess.
    """
    for pattern, meaning, remedy in _KNOWN:
        if re.search(pattern, message):
            return meaning, remedy
    first = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
    return first[:300], ""
