"""What can be had at Google: which types in which zones, and for about how much."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cloudrun.catalog.instances import Instance
from cloudrun.errors import CloudrunError, Unavailable
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.providers import fitting
from cloudrun.providers.base import Tell, is_named, nobody, zones_named
from cloudrun.providers.fitting import Price, dated
from cloudrun.providers.gcp import account, calls
from cloudrun.providers.patience import raise_if_hopeless, side_by_side

# From the order to the first answer of a GPU machine's sshd: an estimate, from what
# others' launchers take (facts in docs/gcp.md); no account was at hand to measure it.
BOOT_S = 60.0
# No torch for this GPU on Arm.
_WITHOUT_TORCH = {"GB200"}
_ATTACHED = re.compile(r"(?P<machine>[\w-]+)\+(?P<count>\d+)x(?P<accelerator>[\w-]+)")


@dataclass(frozen=True)
class Type:
    """What is ordered: a machine type, and the GPUs to attach where they are not part of it."""

    machine: str
    accelerator: str = ""
    count: int = 0


def read_type(name: str) -> Type:
    """Read a catalogue's type: `g2-standard-4`, `n1-standard-4+1xnvidia-tesla-t4`."""
    found = _ATTACHED.fullmatch(name)
    return (
        Type(found["machine"], found["accelerator"], int(found["count"])) if found else Type(name)
    )


def offers(need: Need, tell: Tell = nobody) -> Sequence[Offer]:
    """The machines for a need, the cheapest first; of equal ones those in the user's own region.

    Raises:
        Unavailable: Google has no type that fits, or nowhere.
        CloudrunError: Google cannot be asked.
    """
    types = fitting.types(need, "gcp", "Google", _WITHOUT_TORCH)
    named = zones_named(need.targets, "gcp")
    zones = _zones(types, tell)
    home = account.home_region()
    rows = [
        offer
        for instance in types
        for zone in zones[instance.instance_type]
        if is_named(named, _region(zone), zone)
        for offer in _offers(instance, zone, need.spot)
    ]
    if not rows:
        raise _nothing(types, list(named))
    # The catalogue's price is right where it was read: of equal ones, that region is next.
    return sorted(
        rows,
        key=lambda o: (
            o.usd_per_hour,
            o.region != home,
            "the price of" in o.price_note,
            o.zone or "",
        ),
    )


def _zones(types: Sequence[Instance], tell: Tell) -> dict[str, list[str]]:
    """The zones that offer each type, and the GPUs to attach to it."""
    parts = {each.instance_type: read_type(each.instance_type) for each in types}
    asked = list(dict.fromkeys(
        [("machineTypes", part.machine) for part in parts.values()]
        + [("acceleratorTypes", part.accelerator) for part in parts.values() if part.accelerator]
    ))  # fmt: skip
    answers = side_by_side(lambda each: _where(*each), asked)
    raise_if_hopeless(answers)
    found: dict[tuple[str, str], set[str]] = {}
    silent: dict[str, str] = {}
    for key, answer in zip(asked, answers, strict=True):
        if isinstance(answer, CloudrunError):
            silent[f"of {key[1]}"] = f"{answer.what} {answer.why}"
            continue
        found[key], without = answer
        silent |= {f"in {zone}": "There is no answer from there." for zone in without}
    fitting.tell_of_silent("Google", silent, tell)
    zones = {}
    for name, part in parts.items():
        there = found.get(("machineTypes", part.machine), set())
        if part.accelerator:
            there = there & found.get(("acceleratorTypes", part.accelerator), set())
        zones[name] = sorted(there)
    return zones


def _where(collection: str, name: str) -> tuple[set[str], list[str]]:
    """The zones that have a type of machine or accelerator, and those that gave no answer."""
    doing = "list its machine types"
    rows, silent = calls.aggregated(doing, collection, f"name={name}")
    return {calls.last(row.get("zone")) for row in rows if row.get("name") == name}, silent


def _region(zone: str) -> str:
    return zone.rpartition("-")[0]


def _offers(instance: Instance, zone: str, spot: bool) -> Iterator[Offer]:
    price = dated(instance, _region(zone))
    if price is None:
        return
    price = _at_most(price) if spot else price
    yield Offer(
        provider="gcp",
        device="cuda",
        region=_region(zone),
        zone=zone,
        instance_type=instance.instance_type,
        gpu=instance.gpu or None,
        gpu_count=int(instance.gpu_count or 0),
        spot=spot,
        usd_per_hour=price.usd,
        price_as_of=price.as_of,
        price_note=price.note,
        boot_s=BOOT_S,
    )


def _at_most(price: Price) -> Price:
    """What a spot machine costs at most: no API of Google's tells what it costs.

    https://cloud.google.com/compute/docs/instances/create-use-spot
    """
    note = "at most (on demand)"
    return Price(price.usd, price.as_of, f"{note}, {price.note}" if price.note else note)


def _nothing(types: Sequence[Instance], places: Sequence[str]) -> Unavailable:
    names = ", ".join(each.instance_type for each in types)
    where = f" in {', '.join(places)}" if places else ""
    return Unavailable(
        f"Google does not offer {names}{where}, or the catalogue has no price for it.",
        "",
        "Leave the region out, or choose another GPU: cloudrun gpus",
    )
