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
        "Install NVIDIA's driver for it and restart the machine.",
    ),
    (
        r"Driver/library version mismatch",
        "The NVIDIA driver was updated while its old version is still running.",
        "Restart the machine.",
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
        r"no kernel image is available|is not compatible with the current PyTorch",
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
        r"out of memory|ALLOC_FAILED",
        "There was not enough free memory; another program may be using it.",
        "Run 'nvidia-smi' to see who uses the GPU's memory, and end that program.",
    ),
    (
        r"SUBLIBRARY_VERSION_MISMATCH|CUDNN_STATUS_NOT_INITIALIZED",
        "Another cuDNN on this machine hides the one that came with torch.",
        "Run 'unset LD_LIBRARY_PATH' and try again.",
    ),
    (
        r"[Bb]us error|/dev/shm|shared memory",
        "The shared memory (/dev/shm) is too small, as it is in a container by default.",
        "Start the container with '--shm-size=8g'.",
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
