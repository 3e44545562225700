"""The protocol of a provider: a handful of functions, which a module can be.

A provider registers under its name in the entry-point group
`cloudrun.providers`; see docs/architecture.md.
"""

from __future__ import annotations

import getpass
import importlib
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, cast

from cloudrun.errors import CloudrunError, NoCredentials, NotInstalled
from cloudrun.hosts.base import Host, Person
from cloudrun.model.machine import Machine
from cloudrun.model.need import NOTEBOOKS, RUN_TTL_S, Need
from cloudrun.model.offer import Offer
from cloudrun.model.resource import Resource

GROUP = "cloudrun.providers"
# Those that come with cloudrun: to look through all that is installed takes longer than
# to reach a machine.
OURS = ("local", "ssh", "aws", "gcp", "rehearsal", "colab", "kaggle")
# What a cloud raises that was never set up here: it is passed over where others will do.
NEVER_SET_UP = (NoCredentials, NotInstalled)


@dataclass(frozen=True)
class Finding:
    """One thing that `cloudrun doctor` looked at; `detail` and `remedy` are sentences."""

    name: str
    status: Literal["pass", "fail", "skip"]
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Order:
    """What a machine is created for: the run, its how-manieth attempt, when it must be gone.

    `deadline` is RFC 3339 in UTC; `longest_s` the most seconds that the machine can live,
    whatever the clocks say. In `folder` lie the keys of the run's machine. `detach`: its
    job is to be left; `environment` are variables for it, which are written down nowhere.
    """

    run_id: str
    attempt: int
    deadline: str
    need: Need
    folder: Path
    longest_s: int = RUN_TTL_S
    detach: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Found:
    """What of ours is still there, and in sentences where nobody could look."""

    resources: Sequence[Resource] = ()
    unknown: Sequence[str] = ()


# Takes a sentence for the person who waits.
Tell = Callable[[str], None]


def nobody(sentence: str) -> None:
    """Tell nobody."""


class Provider(Protocol):
    """What a provider can do. `name` is the target's name on the command line."""

    name: str

    def check(self) -> Sequence[Finding]:
        """Look whether this provider can be used, and say what is missing."""
        ...

    def offers(self, need: Need, tell: Tell = nobody) -> Sequence[Offer]:
        """Give what can be had for this need, best first; empty when nothing fits.

        `tell` is told of where nobody could look, since there may be something better.
        """
        ...

    def create(self, offer: Offer, order: Order) -> Machine:
        """Get the machine. It costs money from here on, and ends itself at its deadline.

        The same order gives the same machine, however often this is called.

        Raises:
            CannotHave: this offer cannot be had; others may.
            CloudrunError: there is no use in trying others.
        """
        ...

    def connect(self, machine: Machine, person: Person, until: float) -> Host:
        """Open a connection to the machine, as soon as it can be reached.

        Args:
            machine: What `create` gave.
            person: Who may be asked on the way.
            until: The moment (`time.monotonic()`) to give up at.

        Raises:
            HostUnreachable: it cannot be reached, or is gone.
        """
        ...

    def gone(self, machine: Machine) -> str | None:
        """Why the machine is gone, or soon will be, in a sentence; None while all is well."""
        ...

    def find(self, regions: Sequence[str] | None = None) -> Found:
        """Give everything of ours that is still there, as the provider itself sees it.

        In these regions; None looks into all.
        """
        ...

    def terminate(self, run_id: str, region: str | None, machine: Machine | None) -> str:
        """End all that was created for a run in a region; nothing of it is left on return.

        Nothing happens when all is gone already. `machine` where it is known.
        Returns the moment (RFC 3339, UTC) from which on it costs nothing more.

        Raises:
            CloudrunError: something may still be there; the error says what and where.
        """
        ...


def owner() -> str:
    """Who we are, as it is written on what we create: the user, on this computer."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{platform.node()}"[:200]


def install_command(extra: str) -> str:
    """The line that installs what an extra brings into the Python that runs cloudrun.

    It does not name cloudrun itself: where that is not installed already, pip would
    take another project of this name.
    """
    from importlib.metadata import requires

    wanted = [each for each in requires("cloudrun") or () if f'extra == "{extra}"' in each]
    named = [f'"{each.partition(";")[0].strip()}"' for each in wanted]
    program = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return " ".join([program, "-m pip install", *named])


def unusable(name: str, error: CloudrunError) -> Finding:
    """What `check` says of a cloud that cannot be used: no failure where it was never set up."""
    status: Literal["skip", "fail"] = "skip" if isinstance(error, NEVER_SET_UP) else "fail"
    return Finding(name, status, f"{error.what} {error.why}".strip(), error.try_this)


def zones_named(targets: Sequence[str], *clouds: str) -> dict[str, tuple[str, ...]]:
    """The regions that targets like `aws/us-east-1/us-east-1a` name, each with its zones.

    No zones: any of them. No regions: anywhere.
    """
    named: dict[str, list[str]] = {}
    anywhere = set()
    for cloud, *place in (target.split("/") for target in targets):
        if cloud in clouds and place:
            named.setdefault(place[0], []).extend(place[1:])
            anywhere |= {place[0]} if len(place) == 1 else set()
    return {region: () if region in anywhere else tuple(zones) for region, zones in named.items()}


def is_named(named: Mapping[str, Sequence[str]], region: str, zone: str | None) -> bool:
    """Whether a zone is among those that `zones_named` gives."""
    return not named or (region in named and (not named[region] or zone in named[region]))


def place(offer: Offer) -> tuple[str, str | None]:
    """Where to look for what was created for an offer: the provider and its region."""
    return offer.provider, offer.region


def names() -> tuple[str, ...]:
    """The names of the providers that are installed."""
    from importlib.metadata import entry_points

    return tuple(sorted(entry_points(group=GROUP).names))


def clouds() -> tuple[str, ...]:
    """The names of those that rent machines: all but this machine, yours, and what is played."""
    return tuple(name for name in names() if name not in ("local", "ssh", "rehearsal"))


def load(name: str) -> Provider:
    """Import the provider of this name, one of `names()`."""
    if name in OURS:
        folder = "notebooks" if name in NOTEBOOKS else "providers"
        return cast(Provider, importlib.import_module(f"cloudrun.{folder}.{name}"))
    from importlib.metadata import entry_points

    return cast(Provider, entry_points(group=GROUP)[name].load())
