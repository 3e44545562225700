"""Which of a cloud's machine types fit a need, by the catalogue, and what they cost."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cloudrun.catalog.gpus import all_gpus
from cloudrun.catalog.gpus import find as find_gpus
from cloudrun.catalog.instances import Instance, all_instances, for_gpu
from cloudrun.errors import Unavailable
from cloudrun.model.need import Need
from cloudrun.providers.base import Tell

_MOST_TYPES = 8
_TURING = 7.5


@dataclass(frozen=True)
class Price:
    """US dollars per hour, the day of it, and what else there is to know of it."""

    usd: float
    as_of: str
    note: str = ""


def types(need: Need, cloud: str, title: str, without: Collection[str]) -> list[Instance]:
    """The types that fit, the cheapest first; a named one alone, even if the catalogue lacks it.

    Args:
        need: What is wanted.
        cloud: The cloud's name in the catalogue.
        title: Its name for people.
        without: GPUs for which there is no torch on this cloud's machines.

    Raises:
        Unavailable: there is none.
    """
    ours = [each for each in all_instances() if each.cloud == cloud]
    if need.instance_type is not None:
        known = [each for each in ours if each.instance_type == need.instance_type]
        return known or [_unknown_type(cloud, need.instance_type)]
    count = need.gpu.count if need.gpu else 1
    if need.gpu is not None:
        fitting = [each for each in for_gpu(need.gpu.name, count) if each.cloud == cloud]
    else:
        fitting = sorted((i for i in ours if i.gpu_count == count), key=_price_or_last)
    usable = [each for each in fitting if each.gpu not in without]
    if not usable:
        raise _no_type(need, ours, title, without)
    return usable[:_MOST_TYPES]


def tell_of_silent(title: str, silent: Mapping[str, str], tell: Tell) -> None:
    """Tell where a cloud does not say what it has; `silent`: why, by place (`in us-east-1`)."""
    for place, why in itertools.islice(silent.items(), 1):
        others = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        tell(f"{title} does not say what it has {place}{others}: these offers lack it. {why}")


def dated(instance: Instance, region: str) -> Price | None:
    """The catalogue's price of a type, where the cloud's own does not answer; None without one."""
    if instance.usd_per_hour is None or instance.price_as_of is None:
        return None
    note = f"the price of {instance.region}" if region != instance.region else ""
    return Price(instance.usd_per_hour, instance.price_as_of.isoformat(), note)


def capability(gpu: str | None) -> float:
    """A GPU's compute capability; of an unknown one, that it is new."""
    known = {each.name: each.compute_capability for each in all_gpus()}
    found = known.get(gpu or "")
    return float(found) if found is not None else _TURING


def is_before_turing(gpu: str | None) -> bool:
    """Whether NVIDIA's newest drivers have let a GPU go."""
    return capability(gpu) < _TURING


def _unknown_type(cloud: str, name: str) -> Instance:
    return Instance(cloud, name, "", Fraction(0), None, None, None, "", None, "", "")


def _price_or_last(instance: Instance) -> float:
    return float("inf") if instance.usd_per_hour is None else instance.usd_per_hour


def _no_type(
    need: Need, ours: Sequence[Instance], title: str, without: Collection[str]
) -> Unavailable:
    assert need.gpu is not None  # noqa: S101 - there are types with one GPU
    names = {gpu.name for gpu in find_gpus(need.gpu.name)} - set(without)
    counts = sorted({each.gpu_count for each in ours if each.gpu in names})
    listed = ", ".join(str(count) for count in counts)
    return Unavailable(
        f"{title} has no machine with {need.gpu.count} x {need.gpu.name}.",
        f"It has some with {listed}." if listed else "It rents none of this model.",
        f"Which GPUs there are, and where: cloudrun gpus {need.gpu.name}",
    )
