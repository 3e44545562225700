"""The benchmark's values against torch.utils.benchmark, measured in turn in one process.

    python benchmarks/values.py [--device auto|cuda|mps|cpu] [--rounds N]

The matrix products and the memory rates of the quick profile, and
`Timer.blocked_autorange` on operands of its own: same shapes, number format,
layout and threads. The ratio is the median over the pairs, not of the medians:
a shared machine's memory may have two speeds and change between them within
seconds, which hits the two columns unequally, and a few pairs only.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import Any

import timing
import torch
from torch.utils.benchmark import Timer

from cloudrun.workloads import cases, nvml
from cloudrun.workloads.bench import BUDGET_S
from cloudrun.workloads.device import DTYPES, pick, use_tf32

LIMIT = 0.05
BUDGET = BUDGET_S["quick"]
Values = dict[str, list[tuple[float, float]]]


def main() -> int:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    parser.add_argument("--rounds", type=int, default=11, help="of each value [default: 11]")
    options = parser.parse_args()
    device = pick(options.device)
    compared = [
        case for case in cases.plan(device, "quick") if case.name.startswith(("matmul", "memory"))
    ]
    values: Values = {}
    with nvml.open_device(device) if device.type == "cuda" else cases.no_gpu() as gpu:
        for _ in range(options.rounds):
            for case in compared:
                for row in case.run(BUDGET, gpu):
                    values.setdefault(label(row), []).append((row["value"], theirs(row)))
    return show(values)


def label(row: dict[str, Any]) -> str:
    """A measurement in a few words."""
    params = row["params"]
    size = f" {params['m']}" if "m" in params else ""
    return f"{row['name']} {params['dtype']}{size} {params['device']}, {row['unit']}"


def theirs(row: dict[str, Any]) -> float:
    """The same work timed by torch.utils.benchmark, in the measurement's unit."""
    params = row["params"]
    use_tf32(params["dtype"] == "tf32")
    call, amount = work(row["name"], params, torch.device(params["device"]))
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    return amount / float(timer.blocked_autorange(min_run_time=BUDGET).median)


def work(
    name: str, params: dict[str, Any], device: torch.device
) -> tuple[Callable[[], object], float]:
    """One call of the work on fresh operands, and how much of the unit times seconds it is."""
    dtype = DTYPES[params["dtype"]]
    if name == "matmul":
        m, n, k = params["m"], params["n"], params["k"]
        a = torch.randn(m, k, device=device).to(dtype)
        b = torch.randn(n, k, device=device).to(dtype).t()
        c = torch.empty(m, n, device=device, dtype=dtype)
        return lambda: torch.mm(a, b, out=c), 2 * m * n * k / 1e12
    x = torch.randn(params["buffer_bytes"] // dtype.itemsize, device=device, dtype=dtype)
    z, y = torch.ones_like(x), torch.empty_like(x)
    if name == "memory_copy":
        return lambda: y.copy_(x), 2 * params["buffer_bytes"] / 1e9
    return lambda: torch.add(x, z, alpha=3.0, out=y), 3 * params["buffer_bytes"] / 1e9


def show(values: Values) -> int:
    """Print the table and the verdict; returns the exit status."""
    rows, over = [], []
    for name, pairs in values.items():
        ratios = [ours / others for ours, others in pairs]
        ratio = statistics.median(ratios)
        medians = (f"{statistics.median(column):.4g}" for column in zip(*pairs, strict=True))
        rows.append(
            (name, *medians, f"{ratio:.3f}", f"{timing.spread(ratios):.0%}", f"1 +- {LIMIT:g}")
        )
        if abs(ratio - 1) > LIMIT:
            over.append(name)
    timing.print_table(("VALUE", "CLOUDRUN", "TIMER", "RATIO", "SPREAD", "LIMIT"), rows)
    return timing.verdict(over)


if __name__ == "__main__":
    sys.exit(main())
