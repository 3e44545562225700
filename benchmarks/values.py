"""The benchmark's values against torch.utils.benchmark, measured in turn in one process.

    python benchmarks/values.py [--device auto|cuda|mps|cpu] [--rounds N]

The matrix products and the memory rates of the quick profile, and
`Timer.blocked_autorange` with the same call on the same operands and threads.
The operands are shared because which pages of memory a buffer gets moves its
rate by several per cent, whoever measures; how much work a call is, is counted
here anew. The ratio is the median over the pairs, not of the medians: a shared
machine's memory may have two speeds and change between them within seconds,
which hits the two columns unequally, and a few pairs only.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

import timing
import torch
from torch.utils.benchmark import Timer

from cloudrun.workloads import cases, nvml
from cloudrun.workloads.bench import BUDGET_S
from cloudrun.workloads.device import pick
from cloudrun.workloads.measure import Work, measure

LIMIT = 0.05
Values = dict[str, list[tuple[float, float]]]


def main() -> int:
    """Measure and print; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    parser.add_argument("--rounds", type=int, default=11, help="of each value [default: 11]")
    options = parser.parse_args()
    device = pick(options.device)
    values: Values = {}

    def measure_both(work: Work, place: torch.device, budget_s: float, gpu: Any) -> dict[str, Any]:
        for _ in range(options.rounds):
            row = measure(work, place, budget_s, gpu)
            pair = (row["value"], theirs(work, row["params"], budget_s))
            values.setdefault(label(row), []).append(pair)
        return row

    # The cases call it with their operands ready and proven.
    cases.measure = measure_both  # type: ignore[assignment]
    with nvml.open_device(device) if device.type == "cuda" else cases.no_gpu() as gpu:
        for case in cases.plan(device, "quick"):
            if case.name.startswith(("matmul", "memory")):
                list(case.run(BUDGET_S["quick"], gpu))
    return show(values)


def label(row: dict[str, Any]) -> str:
    """A measurement in a few words."""
    params = row["params"]
    size = f" {params['m']}" if "m" in params else ""
    return f"{row['name']} {params['dtype']}{size} {params['device']}, {row['unit']}"


def theirs(work: Work, params: dict[str, Any], budget_s: float) -> float:
    """The same call timed by torch.utils.benchmark, in the measurement's unit."""
    timer = Timer("call()", globals={"call": work.call}, num_threads=torch.get_num_threads())
    return amount(work.name, params) / float(timer.blocked_autorange(min_run_time=budget_s).median)


def amount(name: str, params: dict[str, Any]) -> float:
    """How much one call computes (in TFLOP) or moves (in GB), by its shapes alone."""
    if name == "matmul":
        return 2 * float(params["m"] * params["n"] * params["k"]) / 1e12
    return {"memory_copy": 2, "memory_triad": 3}[name] * float(params["buffer_bytes"]) / 1e9


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
