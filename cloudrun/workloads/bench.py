"""The benchmark: matrix products, memory, convolution, training; the CPU against the GPU.

    python cloudrun/workloads/bench.py [--device auto|cuda|mps|cpu]
                                       [--profile quick|standard|full]

Each measurement is checked for correctness before it is timed, and made in a
child process with a time limit: a crash is a failed check, and the others are
still made. Exit status 0: all were made; 1: at least one could not be.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import Any

from cloudrun.workloads import guard
from cloudrun.workloads.driver import AMD_IS_NOT_MEASURED, has_amd_gpu
from cloudrun.workloads.findings import RETRY, Failure
from cloudrun.workloads.protocol import claim_stdout, die_with_parent, emit, note
from cloudrun.workloads.symptoms import explain

# Seconds of timing for one measurement; with preparation a run takes about
# 1, 5 and 20 minutes on a GPU.
BUDGET_S = {"quick": 1.0, "standard": 8.0, "full": 40.0}


def main() -> int:
    """Run the benchmark; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "mps", "cpu"))
    parser.add_argument("--profile", default="quick", choices=tuple(BUDGET_S))
    parser.add_argument("--tied", action="store_true", help="end when stdin closes")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _run_measurements(options.device, options.profile, options.first)
    if options.tied:
        die_with_parent()
    return int(run(options.device, options.profile))


def run(device: str, profile: str) -> bool:
    """Run the benchmark; returns whether a measurement failed."""
    if device == "cpu" and has_amd_gpu():
        note(AMD_IS_NOT_MEASURED)
    failed = False
    arguments = ["--device", device, "--profile", profile]
    for line in guard.follow(guard.child_command(__file__, arguments)):
        if line["event"] == "died":
            _report_failure(line["step"], f"The measurement {line['how']}.", RETRY)
        else:
            emit(**line)
        failed = failed or line["event"] == "died" or line.get("status") == "fail"
    return failed


def _run_measurements(wanted: str, profile: str, first: int) -> int:
    """The child: make the measurements from `first` on; another child made those before."""
    claim_stdout()
    die_with_parent()
    from cloudrun.workloads import cases, nvml
    from cloudrun.workloads.device import environment, pick, sum_in_fp32, use_tf32

    device = pick(wanted)
    emit("environment", **environment(device))
    plan = cases.plan(device, profile)
    sum_in_fp32()
    with nvml.open_device(device) if device.type == "cuda" else cases.no_gpu() as gpu:
        for index, case in enumerate(plan[first:], start=first):
            use_tf32(False)
            emit(
                "begin",
                step=case.name,
                index=index,
                of=len(plan),
                limit_s=case.limit_s,
                fatal=False,
            )
            _run_case(case, BUDGET_S[profile], gpu)
    emit("finished")
    return 0


def _run_case(case: Any, budget_s: float, gpu: Any) -> None:
    """Make one measurement and report it; whatever it raises is a finding about the machine."""
    try:
        for row in case.run(budget_s, gpu):
            emit("measurement", **row)
    except Failure as failure:
        _report_failure(case.name, str(failure), failure.remedy)
    except Exception as error:  # noqa: BLE001 - drivers and torch raise all kinds
        traceback.print_exc()
        detail, remedy = explain(f"{type(error).__name__}: {error}")
        _report_failure(case.name, detail, remedy or RETRY)


def _report_failure(name: str, detail: str, remedy: str) -> None:
    emit("check", name=f"bench {name}", status="fail", detail=detail, remedy=remedy, seconds=0.0)


if __name__ == "__main__":
    sys.exit(main())
