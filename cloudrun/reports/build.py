"""Make a report of what a workload said, however much or little that is.

Each line is checked by itself. One that makes no sense is left out and named
in the notes, so that a run cut off in the middle still gives a valid report.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

import cloudrun
from cloudrun import workloads
from cloudrun.catalog.gpus import Gpu, by_device, peak_tflops, peak_tflops_at
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import Outcome
from cloudrun.reports import redaction
from cloudrun.reports.schema import (
    SCHEMA,
    Check,
    Cost,
    Environment,
    Machine,
    Measurement,
    Provenance,
    Report,
    Run,
    Timing,
)

WORKLOADS = Path(workloads.__file__).parent

# At the clock that was read nothing can be above the peak; 2% are for reading it.
_CLOCK_CORRECTED_CEILING = 1.02
# Where no clock was read: a card may boost past its data sheet's, and the highest
# published excess is 10% (RTX 3090, see docs/benchmark.md). Memory has no such headroom.
_COMPUTE_CEILING = 1.15
_MEMORY_CEILING = 1.02
_BASIS = (
    "seconds from the order of the machine to its end x its list price per hour at launch; "
    "its disk and traffic are not in it"
)
MOST_LINE_BYTES = 8 * 2**20


class Ran(Protocol):
    """What a report needs to know of its run."""

    @property
    def id(self) -> str: ...  # noqa: D102
    @property
    def created(self) -> str: ...  # noqa: D102
    @property
    def need(self) -> Need: ...  # noqa: D102
    @property
    def argv(self) -> tuple[str, ...]: ...  # noqa: D102


def make_report(
    row: Ran,
    *,
    offer: Offer,
    findings: Findings,
    timeline: Sequence[Timing],
    usd: float,
    predicted_usd: float,
    outcome: Outcome,
) -> Report:
    """Put a run's report together; `usd` is what it cost in US dollars.

    Names of users and hosts, addresses and paths are left out, unless the settings want them.
    """
    report = Report(
        schema=SCHEMA,
        id=row.id,
        run=Run(
            id=row.id,
            workload="command" if row.need.command else row.need.workload,
            profile="" if row.need.command else row.need.profile,
            target=",".join(row.need.targets)[:200],
        ),
        created=row.created,
        provenance=Provenance(
            cloudrun=cloudrun.__version__,
            workload_sha256=workload_sha256(),
            argv=tuple(part[:4000] for part in row.argv[:1000]),
        ),
        machine=Machine(
            provider=offer.provider,
            region=offer.region,
            zone=offer.zone,
            instance_type=offer.instance_type,
            spot=offer.spot,
            price_usd_per_hour=offer.usd_per_hour,
            price_as_of=offer.price_as_of,
        ),
        environment=findings.environment,
        checks=tuple(findings.checks),
        measurements=tuple(findings.measurements),
        timeline=tuple(timeline),
        cost=Cost(
            usd=usd,
            predicted_usd=predicted_usd,
            basis=_basis(offer),
        ),
        outcome=outcome,
        notes=tuple(findings.notes[:100]),
    )
    return redaction.redact(report) if redaction.wished() else report


def _basis(offer: Offer) -> str:
    if offer.provider == "rehearsal":
        return "pretended: nothing was rented in this rehearsal, and nothing is to be paid"
    return _BASIS if offer.usd_per_hour else "free"


@functools.cache
def workload_sha256() -> str:
    """The hash of the workloads' source: reports with the same one ran the same program."""
    digest = hashlib.sha256()
    for path in sorted(WORKLOADS.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


class Findings(msgspec.Struct):
    """What a workload has said so far."""

    environment: Environment | None = None
    checks: list[Check] = []
    measurements: list[Measurement] = []
    notes: list[str] = []
    finished: int = 0


def says_anything(findings: Findings) -> bool:
    """Whether there is anything to report."""
    return bool(findings.environment or findings.checks)


def outcome(need: Need, findings: Findings) -> Outcome:
    """How a run ended: `partial` when a workload did not get to its end, else by its checks."""
    if findings.finished < len(need.workloads) and not _hopeless(findings):
        return "partial"
    if need.command is not None and not any(c.name == "command" for c in findings.checks):
        return "partial"
    return "failed" if any(check.status == "fail" for check in findings.checks) else "passed"


def _hopeless(findings: Findings) -> bool:
    """The smoke test got to its end and found no device that works: there was no more to do."""
    return findings.finished > 0 and findings.environment is None


def gather(lines: Iterable[bytes]) -> Findings:
    """Read all lines of a run's workloads."""
    findings = Findings()
    for line in lines:
        add(findings, line)
    return findings


def add(findings: Findings, line: bytes) -> dict[str, Any] | None:
    """Take in one line; returns it decoded, or None when it made no sense."""
    try:
        if len(line) > MOST_LINE_BYTES:
            raise msgspec.ValidationError("it is too long")
        said = msgspec.json.decode(line, type=dict[str, Any])
        _take(findings, said)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if len(findings.notes) < 20:
            findings.notes.append(
                f"A line of the workload made no sense and was left out: {error}."
            )
        return None
    return said


def _take(findings: Findings, said: dict[str, Any]) -> None:
    fields = {key: value for key, value in said.items() if key != "event"}
    match said.get("event"):
        case "environment":
            findings.environment = msgspec.convert(fields, Environment)
        case "check":
            findings.checks.append(msgspec.convert(fields, Check))
        case "measurement":
            _take_measurement(findings, msgspec.convert(fields, Measurement))
        case "note":
            text = msgspec.convert(fields.get("text"), str)[:4000]
            # Both workloads may have the same to say of the machine.
            findings.notes += [text] if text not in findings.notes else []
        case "finished":
            findings.finished += 1


def _take_measurement(findings: Findings, measurement: Measurement) -> None:
    """Add a measurement, with its peak; one above what physics allows is a failed check."""
    measurement = with_peak(measurement, _gpu_of(findings.environment, measurement))
    limit = _limit(measurement)
    if limit and measurement.value > limit[0]:
        findings.checks.append(
            Check(
                name=f"bench {measurement.name}",
                status="fail",
                detail=f"{measurement.value:g} {measurement.unit} is more than this device can "
                f"do, {limit[1]}: the number cannot be true.",
                remedy="Please report it, with the report's JSON, to the makers of cloudrun.",
            )
        )
        measurement = msgspec.structs.replace(
            measurement, stable=False, note="above what the device can do"
        )
    findings.measurements.append(measurement)


def complete(report: Report) -> Report:
    """Add what only the catalogue knows to a report that was made without it.

    That is peaks, and a failed check for a number above what physics allows. A
    report that has a peak is left as it is.
    """
    if any(row.peak is not None for row in report.measurements):
        return report
    findings = Findings(report.environment, list(report.checks))
    for row in report.measurements:
        _take_measurement(findings, row)
    broken = len(findings.checks) > len(report.checks) and report.outcome == "passed"
    return msgspec.structs.replace(
        report,
        checks=tuple(findings.checks),
        measurements=tuple(findings.measurements),
        outcome="failed" if broken else report.outcome,
    )


def _limit(row: Measurement) -> tuple[float, str] | None:
    """What no true measurement is above, and the figure behind it in words.

    There is none for a convolution: its FLOP are counted as the plain method does
    them, and a library may choose one that does less than half (Winograd's).
    """
    if row.peak is None or row.name == "convolution":
        return None
    if row.gpu and row.clock_corrected_peak:
        mhz = row.gpu.clock_mhz
        words = f"{row.clock_corrected_peak:.4g} at the {mhz:.0f} MHz that it ran at"
        return _CLOCK_CORRECTED_CEILING * row.clock_corrected_peak, words
    ceiling = _MEMORY_CEILING if row.unit == "GB/s" else _COMPUTE_CEILING
    return ceiling * row.peak, f"{row.peak:g} by its data sheet"


def _gpu_of(environment: Environment | None, measurement: Measurement) -> Gpu | None:
    """The catalogue's GPU that was measured; None where that is not certain."""
    if environment is None or not environment.gpus or measurement.params.get("device") == "cpu":
        return None
    own = environment.gpus[0]
    gpu = by_device(own.name, own.memory_bytes)
    if gpu and gpu.multiprocessors and own.multiprocessors not in (None, gpu.multiprocessors):
        return None
    return gpu


def with_peak(measurement: Measurement, gpu: Gpu | None) -> Measurement:
    """Add the data sheet's peak and the roofline's verdict, where the GPU is known.

    No peak for an unknown device: a guess would make the fraction a lie.
    """
    if gpu is None:
        return measurement
    dtype = str(measurement.params.get("dtype", ""))
    flops = peak_tflops(gpu, dtype)
    peak = {"TFLOP/s": flops, "GB/s": gpu.bandwidth_gbps}.get(measurement.unit)
    mhz = measurement.gpu.clock_mhz if measurement.gpu else None
    at_clock = peak_tflops_at(gpu, dtype, mhz) if mhz and measurement.unit == "TFLOP/s" else None
    return msgspec.structs.replace(
        measurement,
        peak=peak,
        peak_fraction=_fraction(measurement.value, peak),
        clock_corrected_peak=float(f"{at_clock:.6g}") if at_clock else None,
        clock_corrected_fraction=_fraction(measurement.value, at_clock),
        bound=_bound(measurement, flops, gpu.bandwidth_gbps),
    )


def _fraction(value: float, peak: float | None) -> float | None:
    return round(value / peak, 4) if peak else None


def _bound(
    measurement: Measurement, tflops: float | None, gbps: float | None
) -> Literal["compute", "memory"] | None:
    """Under which roof the work is: its FLOP per byte against the device's."""
    if not (tflops and gbps and measurement.bytes and measurement.flops is not None):
        return None
    ridge = tflops * 1e12 / (gbps * 1e9)
    return "compute" if measurement.flops / measurement.bytes > ridge else "memory"
