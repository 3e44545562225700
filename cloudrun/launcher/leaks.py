"""What the clouds themselves say is still there of our runs, and its end.

The clouds are asked, not the journal: a journal can be lost, and a machine that
nobody remembers costs the most. The journal only tells what is still in use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cloudrun.errors import CloudrunError
from cloudrun.model.resource import Resource
from cloudrun.model.run import now
from cloudrun.providers import base as providers
from cloudrun.providers.base import Found

State = Literal["left over", "in use", "another's"]


@dataclass(frozen=True)
class Leak:
    """A resource, and whether a run of ours uses it, another person owns it, or nobody."""

    resource: Resource
    state: State


@dataclass(frozen=True)
class Looked:
    """What was found, what costs most first; in sentences, where nobody could look.

    `passed_over` are the clouds that were never set up here.
    """

    leaks: tuple[Leak, ...]
    unknown: tuple[str, ...]
    passed_over: tuple[str, ...] = ()


def look(
    in_use: Collection[str],
    clouds: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
) -> Looked:
    """Ask clouds what is there of cloudrun's runs, in these regions or in all.

    Args:
        in_use: The runs that are going on, or whose machine is kept.
        clouds: Which to ask; None asks all that are installed.
        regions: Where to look; None looks everywhere.

    Raises:
        CloudrunError: a cloud cannot be asked; of clouds that were never set up here, that
            none of them was.
    """
    found, unset = list[Found](), dict[str, CloudrunError]()
    for name in providers.clouds() if clouds is None else clouds:
        try:
            found.append(providers.load(name).find(regions))
        except providers.NEVER_SET_UP as error:
            unset[name] = error
    if unset and not found:
        raise next(iter(unset.values()))
    resources = [resource for each in found for resource in each.resources]
    deadlines: dict[tuple[str, str], str] = {}
    for resource in resources:
        whose = (resource.provider, resource.run)
        deadlines[whose] = max(deadlines.get(whose, ""), resource.deadline)
    # A run is judged as a whole: what belongs to a machine that may live, lives with it.
    leaks = [
        Leak(resource, _state(resource, deadlines[resource.provider, resource.run], in_use))
        for resource in resources
    ]
    leaks.sort(key=lambda leak: -(leak.resource.usd_per_hour or 0.0))
    unknown = tuple(words for each in found for words in each.unknown)
    return Looked(tuple(leaks), unknown, tuple(unset))


def end(leaks: Iterable[Leak], tell: Callable[[str], None]) -> None:
    """End resources, with all else of their runs where they are; the worst failure comes last.

    Raises:
        CloudrunError: something may still be there; the rest was ended all the same.
    """
    problem: CloudrunError | None = None
    places = dict.fromkeys((r.provider, r.region, r.run) for r in (leak.resource for leak in leaks))
    for name, region, run in places:
        try:
            providers.load(name).terminate(run, region, None)
            tell(f"What was left of run {run} in {name} {region} is gone.")
        except CloudrunError as error:
            if problem is not None:
                tell(str(problem))
            problem = error
    if problem is not None:
        raise problem


def to_end(looked: Looked, everyone: bool) -> list[Leak]:
    """What `leaks --kill` ends: what is left over; of everyone, all that there is."""
    return [leak for leak in looked.leaks if everyone or leak.state == "left over"]


def _state(resource: Resource, deadline: str, in_use: Collection[str]) -> State:
    if deadline and deadline < now():
        return "left over"
    if resource.run in in_use:
        return "in use"
    owner = providers.owner()
    return "left over" if resource.owner in ("", owner) else "another's"
