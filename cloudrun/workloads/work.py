"""What `cloudrun launch` runs on the machine: the smoke test, then the benchmark, as one job.

    python cloudrun/workloads/work.py [--workload smoke|bench|all]
                                      [--device auto|cuda|mps|cpu]
                                      [--profile quick|standard|full]

Exit status 0: all passed; 1: something failed.
"""

from __future__ import annotations

import argparse
import sys

from cloudrun.workloads import bench, smoke
from cloudrun.workloads.protocol import claim_stdout, die_with_parent, note


def main() -> int:
    """Run the workloads; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workload", default="all", choices=("smoke", "bench", "all"))
    parser.add_argument("--device", default="auto", choices=("auto", *smoke.ALL))
    parser.add_argument("--profile", default="quick", choices=tuple(bench.BUDGET_S))
    parser.add_argument("--tied", action="store_true", help="end when stdin closes")
    options = parser.parse_args()
    claim_stdout()
    if options.tied:
        die_with_parent()
    failed, usable = False, True
    if options.workload != "bench":
        failed, usable = smoke.run(options.device)
    if options.workload != "smoke" and usable:
        failed = bench.run(options.device, options.profile) or failed
    elif options.workload != "smoke":
        note("The benchmark was not run, because torch cannot use the device.")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
