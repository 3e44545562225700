"""The end at Google: nothing is left, whatever Google says; what is left is found, everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cloudrun.errors import AccessDenied, HostUnreachable, Unavailable
from cloudrun.model.machine import Machine
from cloudrun.model.run import now
from cloudrun.providers import gcp, patience
from cloudrun.providers.base import Order, owner
from cloudrun.providers.gcp import labels
from tests.doubles.gce import Cloud
from tests.doubles.gce_faults import Fault
from tests.providers.gcp.conftest import OFFER

Orders = Callable[..., Order]
SPOT = msgspec.structs.replace(OFFER, spot=True)
pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def machine(paper: Cloud, order: Orders) -> Machine:
    return gcp.create(OFFER, order())


def left(cloud: Cloud) -> list[str]:
    rules = [name for name in cloud.named("firewalls") if name.startswith("cloudrun")]
    return [*cloud.instances, *cloud.named("disks"), *cloud.named("addresses"), *rules]


def test_everything_of_the_run_goes_and_it_may_be_asked_again(
    paper: Cloud, machine: Machine
) -> None:
    paper.end_s = 0.3
    began = now()
    assert began <= gcp.terminate("abc", "us-central1", machine) <= now()
    assert left(paper) == []
    gcp.terminate("abc", "us-central1", machine)
    gcp.terminate("abc", "us-central1", None)


@pytest.mark.parametrize("region", ["us-central1", None])
def test_a_machine_that_nobody_remembers_is_found_by_its_label(
    paper: Cloud, machine: Machine, region: str | None
) -> None:
    gcp.terminate("abc", region, None)
    assert left(paper) == []


def test_other_runs_and_other_regions_are_left_alone(
    paper: Cloud, machine: Machine, order: Orders
) -> None:
    other = gcp.create(OFFER, order(run="abcd"))
    east = msgspec.structs.replace(OFFER, region="us-east1", zone="us-east1-b")
    there = gcp.create(east, order(attempt=2))
    gcp.terminate("abc", "us-central1", machine)
    assert set(paper.instances) == {other.id, there.id}
    assert len([name for name in left(paper) if "let-in" in name]) == 2


def test_an_unknown_machine_that_google_does_not_list_yet_is_waited_for(
    paper: Cloud, order: Orders
) -> None:
    paper.blind_s = 0.3
    gcp.create(OFFER, order())
    gcp.terminate("abc", "us-central1", None)
    assert left(paper) == []


def test_what_autodelete_left_goes_too(paper: Cloud, machine: Machine) -> None:
    paper.instances[machine.id]["disks"][0]["autoDelete"] = False
    said = labels.labels("abc", now())
    paper.resources["addresses", "us-central1", "a"] = {
        "name": "a", "region": "x/regions/us-central1", "labels": said, "address": "192.0.2.9",
    }  # fmt: skip
    kinds = sorted(each.kind for each in gcp.find().resources)
    assert kinds == ["address", "disk", "firewall", "firewall", "machine"]
    gcp.terminate("abc", "us-central1", machine)
    assert left(paper) == []


@pytest.mark.parametrize("how", ["lost after", "lost before", "cut", "html"])
@pytest.mark.parametrize(
    "method", ["instances.delete", "instances.aggregatedList", "firewalls.delete"]
)
def test_lost_answers_lose_nothing(paper: Cloud, machine: Machine, method: str, how: Any) -> None:
    paper.faults.append(Fault(method, how=how, times=3))
    gcp.terminate("abc", "us-central1", machine)
    assert left(paper) == []


@pytest.mark.parametrize("method", ["instances.delete", "zoneOperations.wait", "firewalls.list"])
def test_throttling_is_waited_for(paper: Cloud, machine: Machine, method: str) -> None:
    paper.end_s = 0.1
    paper.faults.append(Fault(method, "rateLimitExceeded", times=3))
    gcp.terminate("abc", "us-central1", machine)
    assert left(paper) == []


def test_expired_credentials_are_told_and_nothing_is_called_gone(
    paper: Cloud, machine: Machine
) -> None:
    paper.faults.append(Fault("instances.delete", "authError"))
    with pytest.raises(AccessDenied, match="does not accept your credentials"):
        gcp.terminate("abc", "us-central1", machine)
    assert machine.id in paper.instances


def test_a_zone_that_does_not_answer_is_no_empty_one(paper: Cloud, machine: Machine) -> None:
    paper.unreachable.add("us-central1-a")
    assert any("us-central1-a" in words for words in gcp.find().unknown)
    with pytest.raises(HostUnreachable, match="us-central1-a"):
        gcp.terminate("abc", "us-central1", None)
    # Another region's zone is no reason to doubt that this one is empty.
    gcp.terminate("abc", "us-east1", None)


def test_a_machine_that_does_not_end_is_named(
    paper: Cloud, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_GONE_S", 0.2)
    # Its operation ends, and it is still there.
    monkeypatch.setattr("tests.doubles.gce_instances._remove", lambda *_: None)
    with pytest.raises(Unavailable, match=rf"not confirmed.*{machine.id}.*leaks --kill"):
        gcp.terminate("abc", "us-central1", machine)


def test_what_cloudrun_never_makes_need_not_be_listed(paper: Cloud, machine: Machine) -> None:
    paper.deny.add("compute.addresses.list")
    gcp.terminate("abc", "us-central1", machine)
    assert left(paper) == []
    assert any(words.startswith("addresses") for words in gcp.find().unknown)


def test_leaks_are_found_everywhere_with_their_price(paper: Cloud, order: Orders) -> None:
    gcp.create(OFFER, order())
    east = msgspec.structs.replace(
        OFFER, region="us-east1", zone="us-east1-b", instance_type="g2-standard-4"
    )
    gcp.create(east, order(run="east"))
    paper.page = 1
    found = gcp.find()
    assert not found.unknown
    (here,) = [r for r in found.resources if (r.region, r.kind) == ("us-central1", "machine")]
    assert (here.run, here.owner, here.usd_per_hour) == ("abc", owner(), 0.54)
    assert here.deadline > now()
    (there,) = [r for r in found.resources if (r.region, r.kind) == ("us-east1", "machine")]
    assert (there.what, there.usd_per_hour) == ("g2-standard-4", 0.7068)
    assert {r.region for r in gcp.find(["us-east1"]).resources} == {"us-east1"}
    # Its disk goes on costing money when it is only stopped.
    paper.powered_off("cloudrun-abc-1")
    costs = {r.kind: r.usd_per_hour for r in gcp.find(["us-central1"]).resources}
    assert costs["machine"] == 0.0
    assert costs["disk"]


def test_what_others_have_there_is_not_ours(paper: Cloud, machine: Machine) -> None:
    paper.resources["instances", "us-central1-a", "theirs"] = {
        "name": "theirs", "labels": {"team": "x"}, "zone": "zones/us-central1-a",
    }  # fmt: skip
    assert "theirs" not in {each.id for each in gcp.find().resources}
    gcp.terminate("abc", "us-central1", machine)
    assert "theirs" in paper.instances
    assert "default-allow-ssh" in paper.named("firewalls")


def test_find_raises_when_google_cannot_be_asked(paper: Cloud) -> None:
    paper.faults.append(Fault("*", "authError"))
    with pytest.raises(AccessDenied):
        gcp.find()


def test_a_machine_that_stopped_cost_nothing_after_that(paper: Cloud, machine: Machine) -> None:
    paper.powered_off(machine.id)
    paper.instances[machine.id]["lastStopTimestamp"] = "2026-11-24T01:02:03.000-07:00"
    assert gcp.terminate("abc", "us-central1", machine) == "2026-11-24T08:02:03.000Z"
    assert left(paper) == []


def test_why_a_machine_is_gone(paper: Cloud, machine: Machine, order: Orders) -> None:
    assert gcp.gone(machine) is None
    paper.powered_off(machine.id)
    assert "is TERMINATED" in (gcp.gone(machine) or "")
    gcp.terminate("abc", "us-central1", machine)
    assert "no machine cloudrun-abc-1 any more" in (gcp.gone(machine) or "")
    over = msgspec.structs.replace(machine, deadline=now())
    assert "ended itself at its deadline" in (gcp.gone(over) or "")


def test_a_spot_machine_that_is_taken_back(paper: Cloud, order: Orders) -> None:
    taken = gcp.create(SPOT, order())
    assert gcp.gone(taken) is None
    paper.preempt(taken.id, notice_s=3600)
    assert "back within 30 seconds" in (gcp.gone(taken) or "")
    other = gcp.create(SPOT, order(attempt=2))
    assert gcp.gone(other) is None
    paper.preempt(other.id, notice_s=0)
    assert "took the spot machine" in (gcp.gone(other) or "")
    assert other.id not in paper.instances
