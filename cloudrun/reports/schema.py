"""The report, schema `cloudrun.report/v1`: one JSON document, the product of a run.

A report may come from a stranger's machine: everything is bounded and checked
when it is read. Fields that this version does not know are ignored, so that a
later v1 may add some; a later schema has another name and is refused.
"""

from __future__ import annotations

import codecs
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cloudrun.errors import BadData
from cloudrun.model.run import Outcome, Phase

SCHEMA: Literal["cloudrun.report/v1"] = "cloudrun.report/v1"
MOST_BYTES = 20 * 2**20
# No quantity that we report comes near it; a number beyond is damage or malice.
_LARGEST = 1e18

Short = Annotated[str, Meta(max_length=200)]
Text = Annotated[str, Meta(max_length=4000)]
Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Moment = Annotated[
    str,
    Meta(
        pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
        r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$"
    ),
]
Day = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Amount = Annotated[float, Meta(ge=0, le=_LARGEST)]
Count = Annotated[int, Meta(ge=0, le=2**53)]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The run that made the report."""

    id: Identifier
    workload: Short
    profile: Short
    target: Short


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """What produced the numbers. Only reports of one `workload_sha256` are comparable."""

    cloudrun: Short
    workload_sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]
    argv: Annotated[tuple[Text, ...], Meta(max_length=1000)] = ()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where it ran, and the price in US dollars an hour, frozen at launch."""

    provider: Short
    region: Short | None = None
    zone: Short | None = None
    instance_type: Short | None = None
    spot: bool = False
    price_usd_per_hour: Amount = 0.0
    price_as_of: Day | None = None


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU as torch sees it; `memory_bytes` in bytes, `uuid` and `vbios` as NVML tells them."""

    name: Short
    memory_bytes: Count | None = None
    compute_capability: Short | None = None
    multiprocessors: Count | None = None
    l2_bytes: Count | None = None
    uuid: Short | None = None
    vbios: Short | None = None


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """What the numbers belong to: device, versions, processor, memory in bytes, GPUs."""

    device: Short
    os: Short
    python: Short
    torch: Short
    cpu: Short
    architecture: Short | None = None
    cuda: Short | None = None
    cudnn: Count | None = None
    driver: Short | None = None
    cpu_count: Count | None = None
    threads: Count | None = None
    memory_bytes: Count | None = None
    gpus: Annotated[tuple[Gpu, ...], Meta(max_length=64)] = ()


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check of the smoke test, or a measurement that could not be made."""

    name: Short
    status: Literal["pass", "fail", "skip"]
    detail: Text = ""
    remedy: Text = ""
    seconds: Amount = 0.0


class GpuState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A GPU during a measurement: MHz, watts, degrees Celsius, what held it back."""

    clock_mhz: Amount | None = None
    power_w: Amount | None = None
    temperature_c: Amount | None = None
    throttled_by: Annotated[tuple[Short, ...], Meta(max_length=16)] = ()


class Measurement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One measurement; `value`, `median`, `p5`, `p95`, `samples` and `peak` are in `unit`.

    `value` is the median. `peak` is the data sheet's figure for this device
    and number format, None where there is none; `peak_fraction` is value/peak.
    `clock_corrected_peak` is the peak at the clock that the GPU had meanwhile,
    `clock_corrected_fraction` value over that. `bound` says which roof of the
    roofline the work is under. `note` says why it is not `stable`, or what else
    is to be known.

    Of one call: `flops` and `bytes` are what it computes and moves, `event_s` its
    median seconds by the GPU's clock, `wall_s` by the CPU's, `joules` its energy.
    `per_joule` is how much of `unit` times seconds a joule does.
    """

    name: Short
    params: dict[Short, str | int | float | bool | None]
    unit: Short
    value: Amount
    median: Amount
    p5: Amount
    p95: Amount
    n: Count
    samples: Annotated[tuple[Amount, ...], Meta(max_length=100_000)]
    peak: Amount | None = None
    peak_fraction: Amount | None = None
    clock_corrected_peak: Amount | None = None
    clock_corrected_fraction: Amount | None = None
    bound: Literal["compute", "memory"] | None = None
    stable: bool
    note: Text = ""
    flops: Amount | None = None
    bytes: Amount | None = None
    event_s: Amount | None = None
    wall_s: Amount | None = None
    joules: Amount | None = None
    per_joule: Amount | None = None
    gpu: GpuState | None = None


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """One phase of the run: when it began, seconds, predicted seconds, US dollars."""

    phase: Phase
    started: Moment
    seconds: Amount
    predicted_seconds: Amount
    usd: Amount


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What the run cost in US dollars, what was predicted, and how it is reckoned."""

    usd: Amount
    predicted_usd: Amount
    basis: Short


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One run's report: what ran, where, on what, with which findings, and what it cost.

    `outcome`: `passed` when every check passed or was skipped, `failed` when
    one failed, `partial` when the run ended before its end.
    """

    schema: Literal["cloudrun.report/v1"]
    id: Identifier
    run: Run
    created: Moment
    provenance: Provenance
    machine: Machine
    environment: Environment | None
    checks: Annotated[tuple[Check, ...], Meta(max_length=1000)]
    measurements: Annotated[tuple[Measurement, ...], Meta(max_length=10_000)]
    timeline: Annotated[tuple[Timing, ...], Meta(max_length=1000)]
    cost: Cost
    outcome: Outcome
    notes: Annotated[tuple[Text, ...], Meta(max_length=100)] = ()

    def to_json(self) -> bytes:
        """The report as one JSON document, the keys in the schema's order."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


class _Head(msgspec.Struct):
    schema: str


_report_decoder = msgspec.json.Decoder(Report)
_head_decoder = msgspec.json.Decoder(_Head)


def parse(data: bytes, name: str) -> Report:
    """Read a report.

    Args:
        data: The JSON document.
        name: What to call it in an error.

    Raises:
        BadData: it is not a report, is damaged, too large, or of another version.
    """
    check_size(len(data), name)
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        head = _head_decoder.decode(data)
        if head.schema != SCHEMA:
            raise BadData(
                f"The report {name} has the schema '{head.schema[:60]}'.",
                f"This version of cloudrun reads '{SCHEMA}' only.",
                "If it was made by a newer cloudrun, update yours.",
            )
        report = _report_decoder.decode(data)
        for moment in (report.created, *(timing.started for timing in report.timeline)):
            # The pattern lets through days that no calendar has.
            datetime.fromisoformat(moment).astimezone(UTC)
        return report
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
        raise BadData(
            f"The report {name} is damaged or is no report.",
            f"{str(error).rstrip('.')[:300]}.",
            "Take a fresh copy from where it was made.",
        ) from error


def check_size(size: int, name: str) -> None:
    """Refuse what is too large to be a report, `size` in bytes.

    Raises:
        BadData: it is.
    """
    if size > MOST_BYTES:
        raise BadData(
            f"The report {name} is {size // 2**20} MiB large.",
            f"No report is larger than {MOST_BYTES // 2**20} MiB, so this is none.",
            "Look at where it came from.",
        )


def decode(data: bytes) -> Report:
    """Read what this version of cloudrun itself has written; `parse` is for all else.

    Raises:
        msgspec.MsgspecError: it is damaged.
    """
    return _report_decoder.decode(data)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a report."""
    return msgspec.json.schema(Report)
