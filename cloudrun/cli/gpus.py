"""`cloudrun gpus`: which GPU there is, what it can do, where it is rented and for how much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import click

from cloudrun.catalog import gpus, instances, wheels
from cloudrun.catalog.gpus import Gpu
from cloudrun.catalog.instances import Instance
from cloudrun.cli import output
from cloudrun.errors import Unavailable

_INDENT = " " * 11
_DTYPES = ("fp32", "tf32", "fp16", "bf16", "fp8")


@click.command("gpus", cls=output.Command)
@click.argument("name", nargs=-1)
@click.option(
    "--min-memory",
    type=output.USD,
    metavar="GB",
    help="Only GPUs with at least this much memory each.",
)
@click.option(
    "--budget",
    type=output.USD,
    metavar="USD",
    help="Only GPUs whose cheapest machine costs at most this much an hour.",
)
@output.json_option
def command(
    name: tuple[str, ...], min_memory: float | None, budget: float | None, json: bool
) -> None:
    """Which GPU: facts, prices, what fits.

    Without NAME, the GPUs that can be rented, cheapest first. With NAME, as
    people say it (T4, A100-80GB, RTX 4090), all that is known of it.
    """
    asked = gpus.find(" ".join(name)) if name else _rentable()
    fitting = [gpu for gpu in asked if _fits(gpu, min_memory, budget)]
    if not fitting:
        raise _nothing_fits(asked, min_memory, budget)
    fitting.sort(key=_price)
    if json:
        output.print_json([_as_json(gpu) for gpu in fitting])
    elif name:
        _show_each(fitting)
    else:
        _show_overview(fitting)


def _rentable() -> tuple[Gpu, ...]:
    return tuple(gpu for gpu in gpus.all_gpus() if instances.for_gpu(gpu.name, None))


def _fits(gpu: Gpu, min_memory: float | None, budget: float | None) -> bool:
    return gpu.memory_gb >= (min_memory or 0) and (budget is None or _price(gpu) <= budget)


def _cheapest_machine(gpu: Gpu) -> Instance | None:
    """Of the machines with one whole GPU, else with several: some GPUs come in eights only."""
    whole = (each for each in instances.for_gpu(gpu.name, None) if each.gpu_count >= 1)
    several = next((each for each in whole if each.usd_per_hour is not None), None)
    return instances.cheapest(gpu.name) or several


def _price(gpu: Gpu) -> float:
    machine = _cheapest_machine(gpu)
    return float("inf") if machine is None or machine.usd_per_hour is None else machine.usd_per_hour


def _nothing_fits(
    asked: Iterable[Gpu], min_memory: float | None, budget: float | None
) -> Unavailable:
    wishes = [f"has at least {min_memory:g} GB of memory"] if min_memory else []
    wishes += [f"costs at most {budget:g} USD an hour"] if budget is not None else []
    large = [gpu for gpu in asked if _fits(gpu, min_memory, None)]
    nearest = min(large, key=_price) if large else max(asked, key=lambda gpu: gpu.memory_gb)
    price = _price(nearest)
    cost = f"from {price:.2f} USD an hour" if price < float("inf") else "not rented by any cloud"
    return Unavailable(
        "No GPU of the catalogue fits.",
        f"None {' and '.join(wishes)}.",
        f"The nearest is {nearest.name}: {nearest.memory_gb:g} GB, {cost}.",
    )


def _show_overview(found: Sequence[Gpu]) -> None:
    machines = [machine for gpu in found if (machine := _cheapest_machine(gpu))]
    output.print_table(
        ["GPU", "GB", "GB/S", "FP16", "USD/H", "GPUS", "CHEAPEST MACHINE"],
        [_overview_row(gpu) for gpu in found],
        right=(1, 2, 3, 4, 5),
    )
    unsupported = [gpu.name for gpu in found if _has_no_wheel(gpu)]
    click.echo()
    _say(f"Prices are a hint: on demand, for the whole machine, as of {_dates(machines)}.")
    _say("FP16: dense peak in TFLOP/s, of bf16 where the GPU has it; ?: sources disagree.")
    if unsupported:
        _say(f"PyTorch has no wheel for: {', '.join(unsupported)}.")


def _overview_row(gpu: Gpu) -> list[str]:
    machine = _cheapest_machine(gpu)
    peak = gpu.bf16_tflops or gpu.fp16_tflops
    return [
        gpu.name,
        f"{gpu.memory_gb:g}",
        _number(gpu.bandwidth_gbps),
        _number(peak) + ("?" if peak and gpu.contested else ""),
        _usd(machine.usd_per_hour) if machine else "-",
        str(machine.gpu_count) if machine else "-",
        _short(machine) + (", no torch" if _has_no_wheel(gpu) else "") if machine else "-",
    ]


def _show_each(found: Sequence[Gpu]) -> None:
    for number, gpu in enumerate(found):
        if number:
            click.echo()
        click.echo(gpu.name)
        for label, text in _facts(gpu):
            _say(text, label)
        if (choice := _torch(gpu)) and choice.command:
            click.echo(_INDENT + choice.command)  # never wrapped: it is there to be copied
        _show_machines(instances.for_gpu(gpu.name, None))


def _facts(gpu: Gpu) -> Iterable[tuple[str, str]]:
    kind = "" if _is_amd(gpu) else "compute capability "
    yield "chip", f"{gpu.architecture}, {kind}{gpu.compute_capability}, {gpu.year}"
    bandwidth = f", {gpu.bandwidth_gbps:g} GB/s" if gpu.bandwidth_gbps else ""
    yield "memory", f"{gpu.memory_gb:g} GB{bandwidth}"
    yield "peaks", _peaks(gpu)
    if gpu.measured_tflops:
        best = f"{gpu.measured_tflops:g} TFLOP/s {gpu.measured_dtype}"
        yield "measured", f"{best}, the best published: {gpu.measured_source}"
    if gpu.boost_mhz:
        yield "clock", f"{gpu.boost_mhz:g} MHz boost, {gpu.multiprocessors} multiprocessors"
    if gpu.tdp_w:
        yield "power", f"{gpu.tdp_w:g} W"
    if gpu.notes:
        yield "note", f"{gpu.notes}."
    yield "source", "; ".join(filter(None, (gpu.source, gpu.clock_source)))
    if choice := _torch(gpu):
        yield "torch", choice.why


def _peaks(gpu: Gpu) -> str:
    known = {dtype: gpus.peak_tflops(gpu, dtype) for dtype in _DTYPES}
    figures = ", ".join(f"{dtype} {peak:g}" for dtype, peak in known.items() if peak)
    if not figures:
        return "none published"
    return f"{figures} TFLOP/s, dense{'; sources disagree' if gpu.contested else ''}"


def _torch(gpu: Gpu) -> wheels.WheelChoice | None:
    """The wheel for this GPU in a cloud's machine with a current driver; None for AMD."""
    if _is_amd(gpu):
        return None
    return wheels.install_line("Linux", gpu.host, (3, 12), "580", gpu.compute_capability)


def _has_no_wheel(gpu: Gpu) -> bool:
    choice = _torch(gpu)
    return choice is not None and choice.command is None


def _is_amd(gpu: Gpu) -> bool:
    return gpu.compute_capability.startswith("gfx")


def _show_machines(machines: Sequence[Instance]) -> None:
    if not machines:
        _say("by no cloud of the catalogue", "rented")
        return
    click.echo()
    output.print_table(
        ["CLOUD", "TYPE", "GPUS", "USD/H", "REGION", "AS OF"],
        [
            [
                each.cloud,
                each.instance_type,
                str(each.gpu_count),
                _usd(each.usd_per_hour),
                each.region or "-",
                each.price_as_of.isoformat() if each.price_as_of else "-",
            ]
            for each in machines
        ],
        right=(2, 3),
    )
    click.echo()
    for note in dict.fromkeys(each.note for each in machines if each.note):
        types = ", ".join(each.instance_type for each in machines if each.note == note)
        _say(f"{types}: {note}.")
    _say("Prices are a hint: on demand, for the whole machine.")


def _as_json(gpu: Gpu) -> dict[str, Any]:
    machine, choice = _cheapest_machine(gpu), _torch(gpu)
    return asdict(gpu) | {
        "torch": asdict(choice) if choice else None,
        "cheapest": _instance_as_json(machine) if machine else None,
        "instances": [_instance_as_json(each) for each in instances.for_gpu(gpu.name, None)],
    }


def _instance_as_json(instance: Instance) -> dict[str, Any]:
    return asdict(instance) | {
        "gpu_count": float(instance.gpu_count),
        "price_as_of": instance.price_as_of.isoformat() if instance.price_as_of else None,
    }


def _dates(machines: Iterable[Instance]) -> str:
    days = {(each.cloud, each.price_as_of) for each in machines if each.price_as_of}
    return ", ".join(f"{day} ({cloud})" for cloud, day in sorted(days))


def _short(machine: Instance) -> str:
    """Without what the row says already, to keep the table within 80 columns."""
    short_type = machine.instance_type.removeprefix("Standard_").partition("+")[0]
    return f"{machine.cloud} {short_type}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _usd(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _say(text: str, label: str = "") -> None:
    click.echo(output.hanging(f"  {label:<9}" if label else "", text))
