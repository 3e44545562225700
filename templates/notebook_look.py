"""What this notebook was given: where it runs, its torch, its processor, its GPUs."""

import os
import platform
import shutil
import subprocess

NO_GPU = """No GPU. All below still runs, on the processor, only slower.
To get one, for free:
  Colab   Runtime, Change runtime type, T4 GPU, Save; then Runtime, Run all.
  Kaggle  Settings, Accelerator, GPU T4 x2; then Run All. It asks for your phone number once.
If the service has none left, it says so; an hour later it often has."""


def look():
    """Print what there is, and return it as a report has it."""
    found = {
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "gpus": gpus(),
        **torch_facts(),
    }
    print(f"Running on {place()}, Python {found['python']}, torch {found['torch']}")
    print(f"Processor  {found['cpu']}, {found['cpu_count']} threads")
    for gpu in found["gpus"]:
        print(f"GPU        {gpu['name']}, {gpu['memory_bytes'] / 2**30:.1f} GiB")
    if found["device"] == "cpu" and found["gpus"]:
        print("This torch cannot use the GPU. The smoke test below says why.")
    elif found["device"] == "cpu":
        print(NO_GPU)
    return found


def place():
    """The service that runs this notebook: colab, kaggle, or a Jupyter of somebody's own."""
    if "COLAB_RELEASE_TAG" in os.environ:
        return "colab"
    return "kaggle" if "KAGGLE_KERNEL_RUN_TYPE" in os.environ else "jupyter"


def torch_facts():
    """The version of torch, and which device it can use."""
    try:
        import torch
    except ImportError:
        return {"torch": "none", "device": "cpu"}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {"torch": torch.__version__, "device": device}


def gpus():
    """The NVIDIA GPUs that the driver sees."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    query = [smi, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    rows = [line.rpartition(", ") for line in said.splitlines()]
    return [
        {"name": name, "memory_bytes": int(mib) * 2**20} for name, _, mib in rows if mib.isdigit()
    ]


def cpu_name():
    """The processor as it calls itself."""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
