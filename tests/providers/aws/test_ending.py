"""The end at AWS: nothing is left, whatever AWS says; what is left is found, everywhere."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cloudrun.errors import AccessDenied, CloudrunError, Unavailable
from cloudrun.model.machine import Machine
from cloudrun.model.run import now
from cloudrun.providers import aws, patience
from cloudrun.providers.aws import calls, state, tags
from cloudrun.providers.base import Order, owner
from cloudrun.rehearsal.cloud import Cloud
from cloudrun.rehearsal.faults import Fault
from tests.providers.aws.conftest import NEED, OFFER

Orders = Callable[..., Order]


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_INSIST_S", 3.0)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.02)


@pytest.fixture
def machine(paper: Cloud, order: Orders) -> Machine:
    return aws.create(OFFER, order())


def states(cloud: Cloud) -> list[str]:
    return [instance.state for instance in cloud.instances.values()]


def groups() -> list[str]:
    found = calls.client("ec2", "us-east-1").describe_security_groups()["SecurityGroups"]
    return [group["GroupName"] for group in found if group["GroupName"] != "default"]


def test_everything_of_the_run_goes_and_it_may_be_asked_again(
    paper: Cloud, machine: Machine
) -> None:
    paper.ending_s = 0.3
    began = now()
    ended = aws.terminate("abc", "us-east-1", machine)
    assert began <= ended <= now()
    assert states(paper) == ["terminated"]
    assert groups() == []
    # Billing ends with the order to end, not with AWS's last word of it.
    assert time.time() - _seconds(ended) > 0.2
    aws.terminate("abc", "us-east-1", machine)
    aws.terminate("abc", "us-east-1", None)


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


def test_a_machine_that_nobody_remembers_is_found_by_its_tag(
    paper: Cloud, machine: Machine
) -> None:
    aws.terminate("abc", "us-east-1", None)
    assert states(paper) == ["terminated"]
    assert groups() == []


def test_other_runs_are_left_alone(paper: Cloud, machine: Machine, order: Orders) -> None:
    other = aws.create(OFFER, order(run="other"))
    aws.terminate("abc", "us-east-1", machine)
    assert paper.instances[other.id].state == "running"
    assert groups() == ["cloudrun-other"]


def test_a_machine_that_aws_does_not_show_yet_is_ended_all_the_same(
    paper: Cloud, order: Orders
) -> None:
    paper.blind_s = 2.0
    machine = aws.create(OFFER, order())
    aws.terminate("abc", "us-east-1", machine)
    assert states(paper) == ["terminated"]


def test_an_unknown_machine_that_aws_does_not_show_yet_is_waited_for(
    paper: Cloud, order: Orders
) -> None:
    paper.blind_s = 1.5
    aws.create(OFFER, order())
    aws.terminate("abc", "us-east-1", None)
    assert states(paper) == ["terminated"]


@pytest.mark.parametrize("how", ["lost after", "lost before", "cut", "html"])
@pytest.mark.parametrize(
    "action", ["TerminateInstances", "DescribeInstances", "DeleteSecurityGroup"]
)
def test_lost_answers_lose_nothing(paper: Cloud, machine: Machine, action: str, how: Any) -> None:
    paper.faults.append(Fault(action, how=how, times=4))
    aws.terminate("abc", "us-east-1", machine)
    assert states(paper) == ["terminated"]
    assert groups() == []


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InternalError"])
@pytest.mark.parametrize("action", ["TerminateInstances", "DescribeInstances", "DescribeVolumes"])
def test_throttling_is_waited_for(paper: Cloud, machine: Machine, action: str, code: str) -> None:
    paper.faults.append(Fault(action, code, times=4))
    aws.terminate("abc", "us-east-1", machine)
    assert states(paper) == ["terminated"]


def test_expired_credentials_are_told_and_nothing_is_called_gone(
    paper: Cloud, machine: Machine
) -> None:
    paper.faults.append(Fault("TerminateInstances", "ExpiredToken"))
    with pytest.raises(AccessDenied, match="have expired"):
        aws.terminate("abc", "us-east-1", machine)
    assert states(paper) == ["running"]


def test_on_the_way_of_another_command_nobody_insists_for_long(
    paper: Cloud, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper.faults.append(Fault("DescribeInstances", "RequestLimitExceeded"))

    def asked() -> int:
        before = len(paper.asked("DescribeInstances"))
        with pytest.raises(Unavailable):
            aws.terminate("abc", "us-east-1", machine)
        return len(paper.asked("DescribeInstances")) - before

    monkeypatch.setattr(patience, "_INSIST_S", 0.0)
    once = asked()
    monkeypatch.setattr(patience, "_INSIST_S", 10.0)
    with patience.at_most(0.2):
        assert asked() == once


def test_a_machine_that_does_not_end_is_named(
    paper: Cloud, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper.ending_s = 3600
    monkeypatch.setattr(patience, "_GONE_S", 0.5)
    with pytest.raises(Unavailable, match=rf"not let go of all.*{machine.id}.*leaks --kill"):
        aws.terminate("abc", "us-east-1", machine)


def test_what_cloudrun_never_makes_need_not_be_listed(paper: Cloud, machine: Machine) -> None:
    paper.deny |= {"ec2:DescribeAddresses", "ec2:DescribeKeyPairs"}
    aws.terminate("abc", "us-east-1", machine)
    assert groups() == []


def test_a_spot_request_is_not_left_open(paper: Cloud, order: Orders) -> None:
    spot = msgspec.structs.replace(OFFER, spot=True, usd_per_hour=0.2)
    machine = aws.create(spot, order())
    aws.terminate("abc", "us-east-1", machine)
    (request,) = paper.spot_requests.values()
    assert request["State"] in ("closed", "cancelled")


def test_leaks_are_found_in_every_region_with_their_price(paper: Cloud, order: Orders) -> None:
    aws.create(OFFER, order())
    west = msgspec.structs.replace(OFFER, region="us-west-2", zone="us-west-2a")
    aws.create(west, order(run="west"))
    ours = tags.tags("west", now())
    ec2 = calls.client("ec2", "us-west-2")
    ec2.create_volume(
        AvailabilityZone="us-west-2a",
        Size=100,
        TagSpecifications=[{"ResourceType": "volume", "Tags": ours}],
    )
    ec2.allocate_address(
        Domain="vpc", TagSpecifications=[{"ResourceType": "elastic-ip", "Tags": ours}]
    )
    ec2.create_key_pair(KeyName="k", TagSpecifications=[{"ResourceType": "key-pair", "Tags": ours}])
    found = aws.find()
    assert not found.unknown
    kinds = sorted((each.region, each.kind) for each in found.resources)
    assert kinds == [
        ("us-east-1", "disk"),
        ("us-east-1", "firewall"),
        ("us-east-1", "machine"),
        ("us-west-2", "address"),
        ("us-west-2", "disk"),
        ("us-west-2", "disk"),
        ("us-west-2", "firewall"),
        ("us-west-2", "key"),
        ("us-west-2", "machine"),
    ]
    (east,) = [r for r in found.resources if (r.region, r.kind) == ("us-east-1", "machine")]
    assert (east.run, east.owner, east.usd_per_hour) == ("abc", owner(), 0.526)
    assert east.deadline > now()
    aws.terminate("west", "us-west-2", None)
    aws.terminate("abc", "us-east-1", None)
    assert aws.find().resources == []


def test_a_region_that_does_not_answer_is_named(paper: Cloud, machine: Machine) -> None:
    paper.faults.append(Fault("*", "ServiceUnavailable", region="eu-west-1"))
    found = aws.find()
    assert any("eu-west-1" in words for words in found.unknown)
    assert machine.id in {each.id for each in found.resources}


def test_find_raises_when_aws_cannot_be_asked(paper: Cloud) -> None:
    paper.faults.append(Fault("*", "ExpiredToken"))
    with pytest.raises(CloudrunError, match="expired"):
        aws.find()


def test_a_machine_that_ended_itself_cost_nothing_after_that(
    paper: Cloud, machine: Machine
) -> None:
    paper.powered_off(machine.id)
    (instance,) = paper.instances.values()
    instance.transition = "User initiated (2026-11-24 01:02:03 GMT)"
    assert aws.terminate("abc", "us-east-1", machine) == "2026-11-24T01:02:03.000Z"


def test_why_a_machine_is_gone(paper: Cloud, machine: Machine, order: Orders) -> None:
    assert aws.gone(machine) is None
    paper.powered_off(machine.id)
    assert "powered itself off" in (aws.gone(machine) or "")
    spot = msgspec.structs.replace(OFFER, spot=True, usd_per_hour=0.2)
    taken = aws.create(spot, order(run="spot", need=NEED))
    assert aws.gone(taken) is None
    paper.interrupt(taken.id, notice_s=0.5)
    assert "within two minutes" in (aws.gone(taken) or "")
    deadline = time.monotonic() + 10
    while paper.instances[taken.id].state != "terminated" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "took the spot machine" in (aws.gone(taken) or "")


def colleagues(paper: Cloud, order: Orders) -> str:
    """A machine of another's: another run's, another owner's, its deadline far away."""
    theirs = order(run="theirs")
    late = dataclasses.replace(theirs, deadline="2099-01-01T00:00:00.000Z")
    return aws.create(OFFER, late).id


def test_answers_that_ignore_the_filter_end_nobody_elses(
    paper: Cloud, machine: Machine, order: Orders
) -> None:
    other = colleagues(paper, order)

    def deaf(request: Any) -> None:
        request.params.pop("Filters", None)

    paper.before = deaf
    aws.terminate("abc", "us-east-1", machine)
    assert paper.instances[machine.id].state == "terminated"
    assert paper.instances[other].state == "running"
    assert groups() == ["cloudrun-theirs"]


def test_a_wildcard_in_a_tag_is_no_wildcard(paper: Cloud, machine: Machine) -> None:
    aws.terminate("*", "us-east-1", None)
    assert paper.instances[machine.id].state == "running"


def test_an_order_that_is_answered_with_anothers_machine_ends_it_not(
    paper: Cloud, order: Orders
) -> None:
    other = colleagues(paper, order)
    ours: list[str] = []

    def lie(request: Any, answer: Any) -> None:
        if request.action == "RunInstances":
            (new,) = set(paper.instances) - {other}
            ours.append(new)
            answer.body = answer.body.replace(new.encode(), other.encode())
            answer.body = answer.body.replace(b"abc", b"theirs")

    paper.after = lie
    with pytest.raises(CloudrunError, match="another's"):
        aws.create(OFFER, order())
    paper.after = None
    aws.terminate("abc", "us-east-1", None)
    assert paper.instances[ours[0]].state == "terminated"
    assert paper.instances[other].state == "running"


def test_a_machine_that_turns_out_to_be_anothers_is_not_ended(
    paper: Cloud, machine: Machine, order: Orders
) -> None:
    other = colleagues(paper, order)
    wrong = msgspec.structs.replace(machine, id=other)
    with pytest.raises(CloudrunError, match="another's"):
        aws.terminate("abc", "us-east-1", wrong)
    assert paper.instances[other].state == "running"


@pytest.mark.thorough
def test_a_machine_that_is_shown_late_is_ended_because_its_firewall_cannot_go(
    paper: Cloud, order: Orders
) -> None:
    paper.blind_s = 6.0
    aws.create(OFFER, order())
    aws.terminate("abc", "us-east-1", None)
    assert states(paper) == ["terminated"]
    assert groups() == []


@pytest.mark.parametrize(
    "action", ["DescribeSpotInstanceRequests", "DescribeVolumes", "DescribeAddresses"]
)
def test_a_kind_that_nobody_lists_keeps_no_run_from_its_end(
    paper: Cloud, machine: Machine, action: str
) -> None:
    paper.faults.append(Fault(action, "InvalidAction", status=400, message="Not valid."))
    aws.terminate("abc", "us-east-1", machine)
    assert states(paper) == ["terminated"]
    assert groups() == []


def test_a_firewall_that_cannot_go_is_told_when_the_machine_has_gone(
    paper: Cloud, machine: Machine
) -> None:
    paper.deny.add("ec2:DeleteSecurityGroup")
    with pytest.raises(AccessDenied, match="DeleteSecurityGroup"):
        aws.terminate("abc", "us-east-1", machine)
    assert states(paper) == ["terminated"]


@pytest.mark.parametrize(
    ("action", "part"),
    [
        ("DescribeAddresses", b"addressesSet"),
        ("DescribeInstances", b"instanceState"),
        pytest.param("DescribeInstances", b"reservationSet", marks=pytest.mark.thorough),
        ("DescribeSecurityGroups", b"groupId"),
    ],
)
def test_answers_that_lack_a_part_are_no_bug_of_ours(
    paper: Cloud, machine: Machine, action: str, part: bytes
) -> None:
    def strip(request: Any, answer: Any) -> None:
        if request.action == action:
            answer.body = answer.body.replace(part, b"nothing")

    paper.after = strip
    with contextlib.suppress(CloudrunError):
        aws.gone(machine)
        aws.find(["us-east-1"])
    paper.after = None
    aws.terminate("abc", "us-east-1", machine)
    assert states(paper) == ["terminated"]


def test_one_answer_without_the_machine_is_not_believed(
    paper: Cloud, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_LOOK_AGAIN_S", 0.01)
    fault = Fault("DescribeInstances", "InvalidInstanceID.NotFound", times=2, status=400,
                  message="The instance ID does not exist")  # fmt: skip
    paper.faults.append(fault)
    assert aws.gone(machine) is None
