"""What every provider of rented machines promises, written once: docs/providers.md.

A new cloud is one more `World` here. Its double is told what shall go wrong.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloudrun.errors import AccessDenied, CannotHave, CloudrunError, Unavailable
from cloudrun.model.machine import Machine
from cloudrun.model.need import GpuRequest, Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import later, now
from cloudrun.providers import base, patience
from cloudrun.providers.aws import calls as aws_calls
from cloudrun.providers.base import Order, Provider
from cloudrun.providers.gcp import account
from cloudrun.providers.gcp import ending as gcp_ending
from cloudrun.rehearsal.cloud import Cloud
from cloudrun.rehearsal.faults import Fault
from tests.doubles import attic, gce, gce_faults
from tests.providers.aws import conftest as aws_conftest
from tests.providers.gcp import conftest as gcp_conftest

PLACES = {"aws": "aws/us-east-1", "gcp": "gcp/us-central1", "attic": "attic/loft"}


@dataclass
class World:
    """A provider, and its cloud as tests see it.

    Attributes:
        provider: What is tested.
        need: What its cloud has.
        offer: One that it makes for that.
        machines: The ids of those that cost money.
        orders: The requests for machines, each as text.
        age: Let all that there is be so many seconds older.
        faults: What can be made to go wrong, by what it must be called; those that a cloud
            cannot have are missing.
    """

    provider: Provider
    need: Need
    offer: Offer
    machines: Callable[[], list[str]]
    orders: Callable[[], list[str]] = list
    faults: dict[str, Callable[[], None]] = field(default_factory=dict)


@pytest.fixture(params=list(PLACES))
def world(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[World]:
    monkeypatch.setattr(patience, "_INSIST_S", 3.0)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(gcp_ending, "_LATE", (0.0, 0.05))
    monkeypatch.setattr("cloudrun.providers.aws.ending._LATE", (0.0, 0.05))
    makers = {"aws": _aws, "gcp": _gcp, "attic": _attic}
    yield from makers[request.param](monkeypatch, tmp_path)


def _need(name: str, gpu: str | None = "T4") -> Need:
    wanted = GpuRequest(gpu) if gpu else None
    return Need(targets=(PLACES[name],), gpu=wanted, ssh_from="192.0.2.7/32")


def _aws(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[World]:
    with Cloud() as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        aws_calls.forget()
        over = ("shutting-down", "terminated")

        def wrong(*args: Any, **more: Any) -> Callable[[], None]:
            return lambda: cloud.faults.append(Fault("RunInstances", *args, **more))

        yield World(
            base.load("aws"),
            _need("aws"),
            aws_conftest.OFFER,
            lambda: [i.id for i in cloud.instances.values() if i.state not in over],
            lambda: [str(request.params) for request in cloud.asked("RunInstances")],
            {
                "no capacity": wrong("InsufficientInstanceCapacity"),
                "quota": wrong("VcpuLimitExceeded"),
                "permission": wrong("UnauthorizedOperation"),
                "credentials": wrong("AuthFailure"),
                "unknown": wrong("SomethingNew", status=400, message="It is Tuesday."),
                "lost after": wrong(how="lost after", times=1),
                "lost before": wrong(how="lost before", times=1),
                "throttled": wrong("RequestLimitExceeded", times=1),
            },
        )
    aws_calls.forget()


def _gcp(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[World]:
    with gce.Cloud() as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        account.forget()

        def wrong(*args: Any, **more: Any) -> Callable[[], None]:
            fault = gce_faults.Fault("instances.insert", *args, **more)
            return lambda: cloud.faults.append(fault)

        yield World(
            base.load("gcp"),
            _need("gcp"),
            gcp_conftest.OFFER,
            lambda: list(cloud.instances),
            lambda: [str(request.body) for request in cloud.asked("instances.insert")],
            {
                "no capacity": wrong("ZONE_RESOURCE_POOL_EXHAUSTED", "operation"),
                "quota": wrong("quotaExceeded"),
                "permission": wrong("forbidden"),
                "credentials": wrong("authError"),
                "unknown": wrong("SomethingNew", status=400, message="It is Tuesday."),
                "lost after": wrong(how="lost after", times=1),
                "lost before": wrong(how="lost before", times=1),
                "throttled": wrong("rateLimitExceeded", times=1),
            },
        )
        assert not cloud.refused
    account.forget()


def _attic(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[World]:
    monkeypatch.setenv("ATTIC_BOOKS", str(folder / "books"))
    monkeypatch.syspath_prepend(str(attic.installed(folder / "site")))
    full = {"quota": lambda: monkeypatch.setenv("ATTIC_FULL", "loft")}
    provider, need = base.load("attic"), _need("attic", None)
    yield World(provider, need, provider.offers(need)[0], lambda: list(attic.machines()),
                faults=full)  # fmt: skip
    sys.modules.pop("attic_cloud", None)


@pytest.fixture
def order(world: World, tmp_path: Path) -> Callable[..., Order]:
    def make(run: str = "abc", attempt: int = 1, ttl_s: float = 1800) -> Order:
        folder = tmp_path / run
        folder.mkdir(exist_ok=True)
        return Order(run, attempt, later(ttl_s), world.need, folder)

    return make


Orders = Callable[..., Order]


def test_it_has_a_name_under_which_it_is_found(world: World) -> None:
    assert world.provider.name in base.names()
    assert world.provider.name in base.clouds()


def test_it_can_be_checked(world: World) -> None:
    findings = world.provider.check()
    assert {finding.status for finding in findings} == {"pass"}
    assert findings[0].name == world.provider.name


def test_offers_have_a_dated_price_the_cheapest_first(world: World) -> None:
    offers = world.provider.offers(world.need)
    assert [o.usd_per_hour for o in offers] == sorted(o.usd_per_hour for o in offers)
    for offer in offers:
        assert offer.provider == world.provider.name
        assert offer.usd_per_hour > 0
        assert offer.boot_s > 0
        assert datetime.fromisoformat(str(offer.price_as_of)).year >= 2026
        assert offer.region
    assert world.offer.instance_type in {offer.instance_type for offer in offers}


def test_to_look_at_offers_creates_nothing(world: World) -> None:
    world.provider.offers(world.need)
    world.provider.check()
    assert world.machines() == []
    assert world.provider.find().resources == []


def test_the_same_order_gives_the_same_machine(world: World, order: Orders) -> None:
    ours, offer = order(), world.offer
    first = world.provider.create(offer, ours)
    again = world.provider.create(offer, ours)
    assert again.id == first.id
    assert again.host_key == first.host_key
    assert world.machines() == [first.id]


def test_a_machine_is_what_was_ordered(world: World, order: Orders) -> None:
    ours, offer = order(), world.offer
    before = now()
    machine = world.provider.create(offer, ours)
    assert machine.offer == offer
    assert machine.deadline == ours.deadline
    assert before <= (machine.since or "") <= now()
    assert world.provider.gone(machine) is None


def test_all_of_a_run_is_marked_and_found(world: World, order: Orders) -> None:
    offer = world.offer
    machine = world.provider.create(offer, order())
    found = world.provider.find()
    assert not found.unknown
    assert machine.id in {each.id for each in found.resources if each.kind == "machine"}
    for each in found.resources:
        assert each.provider == world.provider.name
        assert (each.run, each.owner, each.region) == ("abc", base.owner(), offer.region)
        assert abs(_seconds(each.deadline) - _seconds(machine.deadline)) < 1
    costs = [each.usd_per_hour for each in found.resources if each.kind == "machine"]
    assert costs == [pytest.approx(offer.usd_per_hour, rel=0.2)]


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def test_find_looks_where_it_is_told_to(world: World, order: Orders) -> None:
    offer = world.offer
    world.provider.create(offer, order())
    assert world.provider.find([str(offer.region)]).resources
    elsewhere = next(
        str(o.region)
        for o in world.provider.offers(_anywhere(world.need))
        if o.region != offer.region
    )
    assert world.provider.find([elsewhere]).resources == []


def _anywhere(need: Need) -> Need:
    return msgspec.structs.replace(need, targets=(need.targets[0].partition("/")[0],))


def test_a_machine_dies_by_its_deadline(world: World, order: Orders) -> None:
    """By its own timer, or the cloud's: the order must hold the moment, and what it does then."""
    ours = order(ttl_s=1800)
    world.provider.create(world.offer, ours)
    (found,) = [each for each in world.provider.find().resources if each.kind == "machine"]
    assert _seconds(found.deadline) <= _seconds(ours.deadline) + 1
    moment = int(_seconds(ours.deadline))
    for text in world.orders():
        # Its own timer may come up to a minute after the cloud's.
        timers = [f"deadline={moment + late}" for late in (0, 60)]
        assert any(timer in _decoded(text) for timer in timers)
        assert "terminate" in text or "DELETE" in text


def _decoded(text: str) -> str:
    import base64
    import re

    encoded = re.findall(r"'UserData': '([A-Za-z0-9+/=]+)'", text)
    return text + "".join(base64.b64decode(each).decode() for each in encoded)


def test_the_end_leaves_nothing_and_may_be_asked_for_again(world: World, order: Orders) -> None:
    machine = world.provider.create(world.offer, order())
    before = now()
    ended = world.provider.terminate("abc", machine.offer.region, machine)
    assert before <= ended <= now()
    assert world.machines() == []
    assert world.provider.find().resources == []
    assert world.provider.gone(machine)
    for known in (machine, None):
        world.provider.terminate("abc", machine.offer.region, known)


def test_what_nobody_remembers_is_ended_by_its_run(world: World, order: Orders) -> None:
    machine = world.provider.create(world.offer, order())
    other = world.provider.create(world.offer, order("xyz"))
    world.provider.terminate("abc", machine.offer.region, None)
    assert world.machines() == [other.id]
    assert {each.run for each in world.provider.find().resources} == {"xyz"}


def test_a_run_that_made_nothing_ends_at_once(world: World) -> None:
    world.provider.terminate("never", str(world.offer.region), None)


def test_the_end_of_a_machine_that_ended_itself(world: World, order: Orders) -> None:
    machine = world.provider.create(world.offer, order())
    past = msgspec.structs.replace(machine, since=_ago(3600))
    world.provider.terminate("abc", machine.offer.region, None)
    world.provider.terminate("abc", machine.offer.region, past)


def _ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


MEANINGS: list[tuple[str, type[CloudrunError], str | None]] = [
    ("no capacity", CannotHave, "zone"),
    ("quota", CannotHave, "region"),
    ("permission", AccessDenied, None),
    ("credentials", AccessDenied, None),
    ("unknown", Unavailable, None),
]


@pytest.mark.parametrize(("what", "kind", "scope"), MEANINGS)
def test_errors_are_told_apart(
    world: World, order: Orders, what: str, kind: type[CloudrunError], scope: str | None
) -> None:
    if what not in world.faults:
        assert world.provider.name == "attic"
        return
    offer = world.offer
    world.faults[what]()
    with pytest.raises(kind) as caught:
        world.provider.create(offer, order())
    assert getattr(caught.value, "scope", None) == scope
    assert caught.value.what
    assert caught.value.try_this or what == "unknown"
    assert world.machines() == []


@pytest.mark.parametrize("what", ["lost after", "lost before", "throttled"])
def test_an_answer_that_does_not_come_makes_one_machine(
    world: World, order: Orders, what: str
) -> None:
    offer = world.offer
    world.faults.get(what, lambda: None)()
    machine: Machine = world.provider.create(offer, order())
    assert world.machines() == [machine.id]


def test_a_cloud_that_was_never_set_up_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        if name.startswith(("AWS_ACCESS", "AWS_SECRET", "CLOUDSDK_", "GOOGLE_", "ATTIC_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nonexistent")
    aws_calls.forget()
    account.forget()
    for ask in (world.provider.find, lambda: world.provider.offers(world.need)):
        with pytest.raises(base.NEVER_SET_UP):
            ask()
    assert {finding.status for finding in world.provider.check()} == {"skip"}


def test_the_command_line_takes_a_third_partys_cloud(tmp_path: Path) -> None:
    """From a plan to a result and back to nothing, with the next region when one is full."""
    more = {"PYTHONPATH": str(attic.installed(tmp_path / "site")), "ATTIC_FULL": "loft",
            "ATTIC_BOOKS": str(tmp_path / "books")}  # fmt: skip

    def cloudrun(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "cloudrun", *arguments],
            env={**os.environ, **more}, capture_output=True, encoding="utf-8",
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    done = cloudrun("run", "--on", "attic", "--yes", "--", "sh", "-c", "echo hello")
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert "The attic is full." in done.stderr
    assert (tmp_path / "books").read_text() == "{}"
    place = cloudrun("offers", "--on", "attic/loft", "--json")
    assert place.returncode == 0, place.stderr
    found = cloudrun("leaks")
    assert (found.returncode, "Never set up here: aws, gcp" in found.stderr) == (0, True)
    assert "attic" in cloudrun("doctor").stdout
