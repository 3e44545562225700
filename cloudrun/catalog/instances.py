"""Which clouds rent which GPUs, in which machine, for about how much.

Prices are list prices for on-demand machines on the day they were read: a hint
to choose by. Whoever is about to spend money asks the cloud.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import cache

from cloudrun.catalog import gpus, table


@dataclass(frozen=True, slots=True)
class Instance:
    """One machine type of one cloud. None is what no source says.

    Attributes:
        cloud: `aws`, `gcp` or `azure`.
        instance_type: The cloud's own name; for Google's N1 with a GPU attached,
            `MACHINE+COUNTxACCELERATOR`.
        gpu: A name in `gpus.csv`.
        gpu_count: How many, or what share of one.
        vcpus: Virtual CPUs.
        memory_gb: Of the host, as the cloud counts it.
        usd_per_hour: On demand, for the whole machine.
        region: Where that price holds; empty without a price.
        price_as_of: The day of that price; None without a price.
        note: For the reader, may be empty.
        source: Where the row comes from.
    """

    cloud: str
    instance_type: str
    gpu: str
    gpu_count: Fraction
    vcpus: int | None
    memory_gb: float | None
    usd_per_hour: float | None
    region: str
    price_as_of: date | None
    note: str
    source: str


@cache
def all_instances() -> tuple[Instance, ...]:
    """Every machine type of the catalogue."""
    return tuple(_instance(row) for row in table.read("instances.csv"))


def for_gpu(gpu_name: str, count: int | None = 1) -> tuple[Instance, ...]:
    """The machines with exactly that many GPUs of that name; None: any count, shares too.

    Cheapest first, those without a price last.

    Args:
        gpu_name: As `gpus.find` takes it, so that `A100` means each kind of A100.
        count: GPUs in the machine.

    Raises:
        WrongUsage: No GPU is called that.
    """
    names = {gpu.name for gpu in gpus.find(gpu_name)}
    found = (each for each in all_instances() if each.gpu in names)
    return tuple(sorted((i for i in found if count in (None, i.gpu_count)), key=_price_or_last))


def cheapest(gpu_name: str, count: int = 1, cloud: str | None = None) -> Instance | None:
    """The machine of `for_gpu` with the lowest price, in one cloud if given; None if none has one.

    Raises:
        WrongUsage: No GPU is called that.
    """
    priced = (each for each in for_gpu(gpu_name, count) if each.usd_per_hour is not None)
    return next((each for each in priced if cloud in (None, each.cloud)), None)


def _instance(row: dict[str, str]) -> Instance:
    return Instance(
        cloud=row["cloud"],
        instance_type=row["instance_type"],
        gpu=row["gpu"],
        gpu_count=Fraction(row["gpu_count"]),
        vcpus=int(row["vcpus"]) if row["vcpus"] else None,
        memory_gb=table.number(row["memory_gb"]),
        usd_per_hour=table.number(row["usd_per_hour"]),
        region=row["region"],
        price_as_of=date.fromisoformat(row["price_as_of"]) if row["price_as_of"] else None,
        note=row["note"],
        source=row["source"],
    )


def _price_or_last(instance: Instance) -> float:
    return float("inf") if instance.usd_per_hour is None else instance.usd_per_hour
