"""The smoke test: does torch really work on this machine's device, and is it right?

    python cloudrun/workloads/smoke.py [--device auto|cuda|mps|cpu]

An ordered list of checks, each with a time limit, in a child process: a crash
of the driver fails one check and ends nothing. Each failure is one plain
sentence with one command as its remedy. Exit status 0: every check passed or
was skipped for a stated reason; 1: at least one failed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from typing import Any, NamedTuple, Optional

from cloudrun.workloads import guard
from cloudrun.workloads.driver import AMD_IS_NOT_MEASURED, has_amd_gpu
from cloudrun.workloads.findings import RETRY, Failure, Skip
from cloudrun.workloads.protocol import claim_stdout, die_with_parent, emit, note
from cloudrun.workloads.symptoms import DOCTOR, explain

ALL = ("cuda", "mps", "cpu")


class Check(NamedTuple):
    """A check: the name of its function, its time limit, and the devices it is for.

    `fatal`: when it fails, the later ones would say nothing new and are skipped.
    """

    name: str
    limit_s: float
    devices: tuple[str, ...] = ALL
    fatal: bool = False


CHECKS = (
    Check("driver", 90),
    Check("torch", 180, fatal=True),
    Check("device", 180, fatal=True),
    Check("architecture", 60, ("cuda",), fatal=True),
    Check("allocate", 60, fatal=True),
    Check("autograd", 60),
    Check("matmul", 60),
    Check("convolution", 120),
    Check("attention", 60),
    Check("mixed_precision", 60),
    Check("memory", 120),
    Check("health", 30, ("cuda",)),
    Check("distributed", 120),
    Check("compile", 240, ("cuda", "cpu")),
    Check("onnx", 120),
    Check("dataloader", 120),
    Check("clocks", 30, ("cuda",)),
)
_DEVICE_KNOWN = 1 + [check.name for check in CHECKS].index("device")


def main() -> int:
    """Run the smoke test; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="auto", choices=("auto", *ALL))
    parser.add_argument("--tied", action="store_true", help="end when stdin closes")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--from", dest="first", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _run_checks(options.device, options.first)
    if options.tied:
        die_with_parent()
    return int(run(options.device)[0])


def run(device: str) -> tuple[bool, bool]:
    """Run the smoke test; returns whether a check failed, and whether the device can be used."""
    if device == "cpu" and has_amd_gpu():
        note(AMD_IS_NOT_MEASURED)
    failed = usable = False
    child = guard.child_command(__file__, ["--device", device])
    for line in guard.follow(child):
        if line["event"] == "died":
            _report("fail", line["step"], f"The check {line['how']}.", RETRY)
            if line["fatal"]:
                _skip_rest(line["index"] + 1, line["step"], None)
                emit("finished")
        else:
            emit(**line)
        failed = failed or line["event"] == "died" or line.get("status") == "fail"
        usable = usable or line["event"] == "environment"
    return failed, usable


def _run_checks(wanted: str, first: int) -> int:
    """The child: make the checks from `first` on; another child made those before."""
    claim_stdout()
    die_with_parent()
    device = _pick(wanted) if first >= _DEVICE_KNOWN else None
    for index, check in enumerate(CHECKS[first:], start=first):
        if device is not None and device.type not in check.devices:
            continue
        emit(
            "begin",
            step=check.name,
            index=index,
            of=len(CHECKS),
            limit_s=check.limit_s,
            fatal=check.fatal,
        )
        status = _run_check(check, wanted if device is None else device)
        if status == "fail" and check.fatal:
            _skip_rest(index + 1, check.name, device)
            break
        if check.name == "device":
            device = _pick(wanted)
            _describe(device)
    emit("finished")
    return 0


def _pick(wanted: str) -> Any:
    from cloudrun.workloads.device import pick

    return pick(wanted)


def _describe(device: Any) -> None:
    from cloudrun.workloads.device import environment

    emit("environment", **environment(device))


def _run_check(check: Check, subject: Any) -> str:
    """Make one check and report it; whatever it raises is a finding about the machine."""
    started = time.monotonic()
    try:
        detail, status, remedy = _function(check.name)(subject), "pass", ""
    except Skip as skip:
        detail, status, remedy = str(skip), "skip", skip.remedy
    except Failure as failure:
        detail, status, remedy = str(failure), "fail", failure.remedy
    except Exception as error:  # noqa: BLE001 - drivers and torch raise all kinds
        traceback.print_exc()
        detail, remedy = explain(f"{type(error).__name__}: {error}")
        last_resort = DOCTOR if check.name == "torch" else RETRY
        status, remedy = "fail", remedy or last_resort
    _report(status, check.name, detail, remedy, time.monotonic() - started)
    return status


def _function(name: str) -> Any:
    """Find a check's function; those that need torch are imported after torch was checked."""
    if name in ("driver", "torch", "device"):
        from cloudrun.workloads import preflight

        return getattr(preflight, f"check_{name}")
    from cloudrun.workloads import checks

    return getattr(checks, f"check_{name}")


def _report(status: str, name: str, detail: str, remedy: str, seconds: float = 0.0) -> None:
    emit(
        "check",
        name=name,
        status=status,
        detail=detail,
        remedy=remedy,
        seconds=round(seconds, 3),
    )


def _skip_rest(first: int, failed: str, device: Optional[Any]) -> None:
    """Report the checks from `first` on as not made, because `failed` did."""
    for check in CHECKS[first:]:
        if device is None or device.type in check.devices:
            _report("skip", check.name, f"Not checked, because '{failed}' failed.", "")


if __name__ == "__main__":
    sys.exit(main())
