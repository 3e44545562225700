"""Several clouds at once: some never set up, some without what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from cloudrun.errors import (
    AccessDenied,
    CloudrunError,
    NoCredentials,
    NotInstalled,
    Unavailable,
)
from cloudrun.launcher import leaks, provision
from cloudrun.model.events import Event, Noted
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.providers import base
from cloudrun.providers.base import Found, Tell, nobody
from tests.doubles.paid import PaidProvider


@dataclass
class Cloud(PaidProvider):
    """Its offers, or what it raises instead."""

    problem: CloudrunError | None = None
    silent: Sequence[str] = ()
    asked: list[str] = field(default_factory=list)

    def offers(self, need: Need, tell: Tell = nobody) -> Sequence[Offer]:
        self.find()
        for sentence in self.silent:
            tell(sentence)
        return super().offers(need)

    def find(self, regions: Sequence[str] | None = None) -> Found:
        self.asked.append(self.name)
        if self.problem is not None:
            raise self.problem
        return Found()


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> dict[str, Cloud]:
    made = {"one": Cloud("one", (0.5, 0.7)), "two": Cloud("two", (0.4, 0.6))}
    monkeypatch.setattr(base, "load", lambda name: made[name])
    monkeypatch.setattr(base, "names", lambda: ("local", "one", "ssh", "two"))
    return made


BOTH = Need(targets=("one", "two"))
NEVER = [NoCredentials("No credentials."), NotInstalled("Not installed.")]


def test_the_cheapest_of_all_comes_first(clouds: dict[str, Cloud]) -> None:
    assert [o.usd_per_hour for o in provision.offers(BOTH)] == [0.4, 0.5, 0.6, 0.7]


@pytest.mark.parametrize("problem", [*NEVER, Unavailable("It has none.")])
def test_one_that_cannot_is_passed_over_in_a_sentence(
    clouds: dict[str, Cloud], problem: CloudrunError
) -> None:
    clouds["one"].problem = problem
    told: list[Event] = []
    assert {o.provider for o in provision.offers(BOTH, told.append)} == {"two"}
    assert told == [Noted(problem.what)]


def test_where_nobody_could_look_is_told(clouds: dict[str, Cloud]) -> None:
    clouds["two"].silent = ("Mars is not in these offers.",)
    told: list[Event] = []
    assert len(provision.offers(BOTH, told.append)) == 4
    assert told == [Noted("Mars is not in these offers.")]


def test_when_all_cannot_the_first_says_why(clouds: dict[str, Cloud]) -> None:
    clouds["one"].problem, clouds["two"].problem = NEVER
    with pytest.raises(NoCredentials):
        provision.offers(BOTH)


def test_credentials_that_do_not_work_are_not_passed_over(clouds: dict[str, Cloud]) -> None:
    clouds["two"].problem = AccessDenied("They have expired.")
    with pytest.raises(AccessDenied, match="expired"):
        provision.offers(BOTH)
    with pytest.raises(AccessDenied, match="expired"):
        leaks.look([])


@pytest.mark.parametrize("problem", NEVER)
def test_leaks_asks_every_cloud_that_is_set_up(
    clouds: dict[str, Cloud], problem: CloudrunError
) -> None:
    clouds["one"].problem = problem
    assert leaks.look([]).passed_over == ("one",)
    assert clouds["two"].asked == ["two"]
    clouds["two"].problem = problem
    with pytest.raises(type(problem)):
        leaks.look([])
