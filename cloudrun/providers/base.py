"""The protocol of a provider: a handful of functions, which a module can be.

A provider registers under its name in the entry-point group
`cloudrun.providers`; see docs/architecture.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast

from cloudrun.hosts.base import Host, Person
from cloudrun.model.machine import Machine
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer

GROUP = "cloudrun.providers"
# Those that come with cloudrun: to look through all that is installed takes longer than
# to reach a machine.
OURS = ("local", "ssh")


@dataclass(frozen=True)
class Finding:
    """One thing that `cloudrun doctor` looked at; `detail` and `remedy` are sentences."""

    name: str
    status: Literal["pass", "fail", "skip"]
    detail: str
    remedy: str = ""


class Provider(Protocol):
    """What a provider can do. `name` is the target's name on the command line."""

    name: str

    def check(self) -> Sequence[Finding]:
        """Look whether this provider can be used, and say what is missing."""
        ...

    def offers(self, need: Need) -> Sequence[Offer]:
        """Give what can be had for this need, best first; empty when nothing fits."""
        ...

    def create(self, offer: Offer, run_id: str, deadline: str) -> Machine:
        """Get the machine. It costs money from here on, and ends itself at `deadline`.

        The same run and offer give the same machine, however often this is called.
        """
        ...

    def connect(self, machine: Machine, person: Person) -> Host:
        """Open a connection to the machine; `person` may be asked on the way."""
        ...

    def find(self) -> Sequence[Machine]:
        """Give every machine of ours that is still there, as the provider itself sees it."""
        ...

    def terminate(self, machine: Machine) -> None:
        """End the machine; nothing happens when it is gone already."""
        ...


def names() -> tuple[str, ...]:
    """The names of the providers that are installed."""
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=GROUP).names))


def load(name: str) -> Provider:
    """Import the provider of this name, one of `names()`."""
    if name in OURS:
        return cast(Provider, importlib.import_module(f"cloudrun.providers.{name}"))
    from importlib.metadata import entry_points

    return cast(Provider, entry_points(group=GROUP)[name].load())
