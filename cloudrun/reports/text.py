"""A report as a person reads it on a terminal, with or without colour.

What is wanted first stands first: passed or not, the device, the numbers that
matter and how good they are for this device, what it cost, what to do next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from cloudrun.catalog import gpus as catalog
from cloudrun.catalog.instances import cheapest
from cloudrun.model.columns import clip, pad, wrap
from cloudrun.model.run import rfc3339
from cloudrun.model.words import clean, format_bytes, format_duration, format_number, format_usd
from cloudrun.reports.schema import Check, Measurement, Report

# A report is laid out for 80 columns; below the least ones nothing fits any more.
WIDTH, _LEAST_WIDTH = 80, 40
_LABEL, _TITLE, _VALUE, _LEAST_VERDICT = 10, 22, 42, 20
Paint = Callable[[str, str], str]

# The yardstick for a machine without a GPU: the one that free notebooks have.
_YARDSTICK = "T4"
# A measured fraction of the peak, or of the best that was published, that is as it should be.
_HEALTHY_MEMORY, _HEALTHY_COMPUTE, _HEALTHY_OF_BEST = 0.80, 0.60, 0.85


def plain(text: str, _role: str) -> str:
    """Paint nothing."""
    return text


def render(
    report: Report,
    paint: Paint = plain,
    again: str = "",
    width: int = WIDTH,
    free: str = "A free GPU, in your browser: cloudrun colab --open",
) -> str:
    """Write the report as text.

    Args:
        report: The report; its texts may come from anywhere and are made harmless.
        paint: Colours a text for a role: `good`, `bad`, `strong`.
        again: The command that shows the report once more, where that is worth saying.
        width: The columns that a line may take.
        free: Where the reader finds a free GPU, and the command for it.
    """
    width = max(_LEAST_WIDTH, width)
    sections = (
        _head(report, paint, width),
        _findings(report, paint, width),
        _speed(report, paint, width),
        _ending(report, again, width),
        _next(report, width, free),
    )
    blocks = [list(section) for section in sections]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _head(report: Report, paint: Paint, width: int) -> Iterator[str]:
    words = {
        "passed": ("PASSED", "good"),
        "failed": ("FAILED", "bad"),
        "partial": ("PARTIAL: it ended before its end", "bad"),
    }
    word, role = words[report.outcome]
    created = rfc3339(datetime.fromisoformat(report.created))
    first, *rest = wrap(f"{word}  report {clean(report.id)}, {created[:16]}Z", width)
    yield first.replace(word, paint(word, role), 1)
    yield from rest
    environment = report.environment
    if environment is None:
        command = report.run.workload == "command"
        unknown = "not known" if command else "no device that torch can use"
        yield from _row("Device", unknown, width)
        return
    name = environment.gpus[0].name if environment.gpus else environment.cpu
    memory = environment.gpus[0].memory_bytes if environment.gpus else environment.memory_bytes
    parts = [name, f"{len(environment.gpus)} GPUs" if len(environment.gpus) > 1 else ""]
    if not environment.gpus:
        parts.append(f"{environment.threads} threads" if environment.threads else "")
        parts.append("no GPU")
    parts.append(format_bytes(memory) if memory else "")
    yield from _row("Device", ", ".join(part for part in parts if part), width)
    stack = [
        f"torch {environment.torch}" if environment.torch else "",
        f"driver {environment.driver}" if environment.driver else "",
        f"Python {environment.python}" if environment.python else "",
        environment.os,
    ]
    yield from _row("Software", ", ".join(part for part in stack if part), width)
    if report.machine.provider != "local":
        where = (report.machine.provider, report.machine.zone, report.machine.instance_type)
        yield from _row("Machine", " ".join(part for part in where if part), width)


def _findings(report: Report, paint: Paint, width: int) -> Iterator[str]:
    counts = {
        word: sum(check.status == status for check in report.checks)
        for status, word in (("pass", "passed"), ("fail", "failed"), ("skip", "skipped"))
    }
    if report.checks:
        told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        yield from _row("Checks", told, width)
    for check in report.checks:
        if check.status == "fail":
            yield from _failed(check, paint, width)
    for note in report.notes:
        yield from _row("Note", note, width)


def _failed(check: Check, paint: Paint, width: int) -> Iterator[str]:
    name = clean(check.name.replace("_", " "))
    first, *rest = wrap(f"{name}: {clean(check.detail)}", width - _LABEL)
    yield paint("  FAILED", "bad") + " " * (_LABEL - len("  FAILED")) + first
    yield from (" " * _LABEL + line for line in rest)
    if check.remedy:
        yield from _row("  Try", check.remedy, width)


def _speed(report: Report, paint: Paint, width: int) -> Iterator[str]:
    own = [row for row in report.measurements if row.params.get("device") == _device(report)]
    if not own:
        return
    yield paint("Speed", "strong")
    for row in _headline(own):
        yield from _measurement(row, report, width)
    unknown = report.environment is not None and all(row.peak is None for row in own)
    if unknown and any(row.name in ("matmul", "memory_copy") for row in own):
        yield from _row("", _yardstick_line(own), width)


def _headline(rows: list[Measurement]) -> Iterator[Measurement]:
    """The numbers that matter: fastest matrix product, one in the cold, memory, training."""
    matmuls = [row for row in rows if row.name == "matmul"]
    if matmuls:
        yield max(matmuls, key=lambda row: row.value)
    for name in ("matmul_burst", "memory_copy", "training"):
        yield from [row for row in rows if row.name == name][:1]


def _measurement(row: Measurement, report: Report, width: int) -> Iterator[str]:
    title = {
        "matmul": f"matrix product {row.params.get('dtype')}",
        "matmul_burst": f"  first 2 s, {row.params.get('dtype')}",
        "memory_copy": "memory copy",
        "training": "transformer training",
    }[row.name]
    number = f"{format_number(row.value):>10} {clean(row.unit)}"
    value = clip(pad(clip(clean(title), _TITLE), _TITLE) + number, min(_VALUE, width - 2))
    verdicts = "; ".join(_verdicts(row, report))
    beside = width - _VALUE - 4
    if beside < _LEAST_VERDICT:
        yield f"  {value}"
        yield from ("    " + line for line in wrap(verdicts, width - 4))
        return
    first, *rest = wrap(verdicts, beside) or [""]
    yield f"  {pad(value, _VALUE)}  {first}".rstrip()
    yield from (" " * (_VALUE + 4) + line for line in rest)


def _verdicts(row: Measurement, report: Report) -> Iterator[str]:
    """How good a number is for this device, in words."""
    if row.name == "matmul_burst":
        yield from _beside_sustained(row, report)
        return
    if row.peak_fraction is not None and row.peak is not None:
        word = "as it should be" if row.value >= _healthy(row, report) else "low" + _cause(row)
        yield f"{row.peak_fraction:.0%} of the data sheet's {format_number(row.peak)}: {word}"
    if row.clock_corrected_fraction is not None and row.gpu and row.gpu.clock_mhz:
        yield f"{row.clock_corrected_fraction:.0%} of what its {row.gpu.clock_mhz:.0f} MHz allow"
    twin = _like(row, report, device="cpu")
    if twin is not None and row.params.get("device") != "cpu":
        yield f"{row.value / twin.value:.3g} times this machine's CPU"
    if row.per_joule:
        yield f"{format_number(row.per_joule)} {clean(row.unit.removesuffix('/s'))} per joule"
    if not row.stable:
        yield f"not steady: {clean(row.note)}"
    elif row.note:
        yield clean(row.note)
    elif row.peak is None:
        yield f"steady ({row.n} samples)"


def _cause(row: Measurement) -> str:
    causes = row.gpu.throttled_by if row.gpu else ()
    return f", held back by {clean(', '.join(causes))}" if causes else ""


def _beside_sustained(burst: Measurement, report: Report) -> Iterator[str]:
    """What became of a speed that was measured before the GPU was warm."""
    sustained = _like(burst, report, name="matmul")
    if sustained is not None and burst.value > 0:
        yield f"{sustained.value / burst.value:.0%} of it is left when warm"


def _healthy(row: Measurement, report: Report) -> float:
    """What a healthy device reaches: most of the best that was published, else of its peak."""
    peak = row.peak or 0.0
    if row.unit == "GB/s":
        return _HEALTHY_MEMORY * peak
    own = report.environment.gpus[0] if report.environment and report.environment.gpus else None
    gpu = catalog.by_device(own.name, own.memory_bytes) if own else None
    if gpu and gpu.measured_tflops and gpu.measured_dtype == row.params.get("dtype"):
        return _HEALTHY_OF_BEST * gpu.measured_tflops
    return _HEALTHY_COMPUTE * peak


def _like(
    row: Measurement, report: Report, *, name: str = "", device: str = ""
) -> Measurement | None:
    """The same work under another name, or on another device of the machine; not itself."""
    name, params = name or row.name, {**row.params, "device": device or row.params.get("device")}
    found = [other for other in report.measurements if other.name == name and other is not row]
    return next((other for other in found if other.params == params and other.value > 0), None)


def _yardstick_line(rows: list[Measurement]) -> str:
    """Where there is no peak to compare with: what a common GPU's data sheet says."""
    gpu = catalog.find(_YARDSTICK)[0]
    peaks = {
        "matmul": (catalog.peak_tflops(gpu, "fp16"), " in fp16"),
        "memory_copy": (gpu.bandwidth_gbps, ""),
    }
    parts = []
    for row in _headline(rows):
        peak, kind = peaks.get(row.name, (None, ""))
        if peak and row.value > 0:
            times = format_number(float(f"{peak / row.value:.2g}"))
            parts.append(f"{format_number(peak)} {row.unit}{kind}, {times} times this")
    return (
        "There is no published peak for this device. For comparison, the data sheet of a "
        f"{_YARDSTICK} GPU: {'; '.join(parts)}."
    )


def _ending(report: Report, again: str, width: int) -> Iterator[str]:
    seconds = sum(timing.seconds for timing in report.timeline)
    price = report.machine.price_usd_per_hour
    basis = f"at {format_usd(price)} an hour" if price else "this machine is free"
    if report.machine.provider == "rehearsal":
        basis = f"pretended: a rehearsal, {basis}"
    yield from _row(
        "Cost", f"{format_usd(report.cost.usd)} ({basis}), {format_duration(seconds)} in all", width
    )
    yield from _row("Report", again, width)


def _next(report: Report, width: int, free: str) -> Iterator[str]:
    """The next rung of the ladder: a free GPU, then one for cents."""
    is_command = report.run.workload == "command"
    if report.outcome != "passed" or _device(report) != "cpu" or is_command:
        return
    yield from _row("Next", free, width)
    machine = cheapest(_YARDSTICK)
    if machine is not None and machine.usd_per_hour is not None:
        yield from _row(
            "",
            f"A {_YARDSTICK} of your own costs about {format_usd(machine.usd_per_hour)} an hour "
            f"({machine.cloud} {machine.instance_type}, price of {machine.price_as_of}). "
            f"Rent one: cloudrun launch --on {machine.cloud} --gpu {_YARDSTICK}",
            width,
        )


def _device(report: Report) -> str:
    return report.environment.device if report.environment else ""


def _row(label: str, text: str, width: int) -> Iterator[str]:
    for number, line in enumerate(wrap(clean(text), width - _LABEL)):
        yield f"{label if number == 0 else '':<{_LABEL}}{line}"
