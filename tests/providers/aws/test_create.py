"""A machine at AWS: what is ordered, what goes wrong, what it costs to be unlucky."""

from __future__ import annotations

import base64
import ipaddress
import json
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest

from cloudrun.errors import (
    AccessDenied,
    CannotHave,
    CloudrunError,
    HostUnreachable,
    Unavailable,
    WrongUsage,
)
from cloudrun.model.offer import Offer
from cloudrun.providers import aws, boot, caller, keys, patience, reach
from cloudrun.providers.aws import calls, images, network
from cloudrun.providers.base import Order
from cloudrun.rehearsal.cloud import Cloud
from cloudrun.rehearsal.faults import Fault
from tests.providers.aws.conftest import NEED, OFFER

Orders = Callable[..., Order]


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_INSIST_S", 3.0)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.02)


def request_of(cloud: Cloud, action: str) -> dict[str, Any]:
    (request,) = cloud.asked(action)
    return request.params


def tags(params: dict[str, Any], kind: str) -> dict[str, str]:
    (found,) = [s["Tags"] for s in params["TagSpecifications"] if s["ResourceType"] == kind]
    return {tag["Key"]: tag["Value"] for tag in found}


def test_the_order_says_everything_at_once(paper: Cloud, order: Orders) -> None:
    ours = order()
    machine = aws.create(OFFER, ours)
    asked = request_of(paper, "RunInstances")
    assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert asked["MetadataOptions"]["HttpTokens"] == "required"
    (disk,) = asked["BlockDeviceMappings"]
    assert disk["DeviceName"] == "/dev/sda1"
    assert (disk["Ebs"]["Encrypted"], disk["Ebs"]["VolumeType"]) == (True, "gp3")
    assert disk["Ebs"]["DeleteOnTermination"] is True
    assert (asked["MinCount"], asked["MaxCount"]) == (1, 1)
    assert asked["ClientToken"] == "cloudrun-abc-1-us-east-1a"
    for kind in ("instance", "volume"):
        said = tags(asked, kind)
        assert said["cloudrun-run"] == "abc"
        assert said["cloudrun-deadline"] == ours.deadline
        assert "@" in said["cloudrun-owner"]
    assert tags(request_of(paper, "CreateSecurityGroup"), "security-group")["cloudrun-run"] == "abc"
    assert not paper.asked("CreateTags")
    assert not paper.asked("ImportKeyPair")
    assert "InstanceMarketOptions" not in asked
    assert machine.id in paper.instances
    assert (machine.user, machine.offer) == ("ubuntu", OFFER)
    assert paper.instances[machine.id].zone == "us-east-1a"


def test_the_same_order_is_the_same_machine(paper: Cloud, order: Orders) -> None:
    ours = order()
    assert aws.create(OFFER, ours).id == aws.create(OFFER, ours).id
    assert len(paper.instances) == 1


def test_only_the_caller_can_get_in(paper: Cloud, order: Orders) -> None:
    aws.create(OFFER, order())
    asked = request_of(paper, "AuthorizeSecurityGroupIngress")
    (rule,) = asked["IpPermissions"]
    assert (rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) == ("tcp", 22, 22)
    assert [each["CidrIp"] for each in rule["IpRanges"]] == ["192.0.2.7/32"]
    assert "Ipv6Ranges" not in rule


def test_a_spot_machine_is_ordered_once_and_ends_for_good(paper: Cloud, order: Orders) -> None:
    spot = msgspec.structs.replace(OFFER, spot=True)
    aws.create(spot, order())
    asked = request_of(paper, "RunInstances")
    assert asked["InstanceMarketOptions"] == {
        "MarketType": "spot",
        "SpotOptions": {
            "SpotInstanceType": "one-time",
            "InstanceInterruptionBehavior": "terminate",
        },
    }
    assert tags(asked, "spot-instances-request")["cloudrun-run"] == "abc"


def test_the_timer_is_the_first_act_of_the_boot(paper: Cloud, order: Orders) -> None:
    ours = order(ttl_s=2700)
    machine = aws.create(OFFER, ours)
    text = base64.b64decode(request_of(paper, "RunInstances")["UserData"]).decode()
    assert text.startswith("#cloud-config\n")
    config = json.loads(text.partition("\n")[2])
    assert next(iter(config)) == "bootcmd"
    shell, option, script = config["bootcmd"][0]
    assert (shell, option) == ("sh", "-c")
    deadline = int(datetime.fromisoformat(ours.deadline).timestamp())
    assert f"deadline={deadline}\n" in script
    assert "shutdown -P now" in script
    assert "halt" not in [line for line in script.splitlines() if not line.startswith("#")]
    assert config["ssh_keys"]["ed25519_public"] == machine.host_key
    assert (order().folder / keys.KEY).stat().st_mode & 0o777 == 0o600
    # The key that opens the machine stays here.
    assert (order().folder / keys.KEY).read_text() not in text


def test_private_machines_have_no_public_address(
    paper: Cloud, order: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "_address_towards", lambda _range: "10.8.0.2")
    need = msgspec.structs.replace(NEED, private_ip=True, ssh_from=None)
    aws.create(OFFER, order(need=need))
    (interface,) = request_of(paper, "RunInstances")["NetworkInterfaces"]
    assert interface["AssociatePublicIpAddress"] is False
    (rule,) = request_of(paper, "AuthorizeSecurityGroupIngress")["IpPermissions"]
    assert rule["IpRanges"][0]["CidrIp"] == "10.8.0.2/32"


def test_a_disk_is_never_smaller_than_the_image(paper: Cloud, order: Orders) -> None:
    image = images.choose("us-east-1", "T4", "g4dn.xlarge", None)
    for number, wanted in enumerate((10, 500), 1):
        need = msgspec.structs.replace(NEED, disk_gb=wanted)
        aws.create(OFFER, order(attempt=number, need=need))
        made = paper.asked("RunInstances")[-1].params["BlockDeviceMappings"][0]["Ebs"]
        assert made["VolumeSize"] == max(wanted, image.disk_gb)


@pytest.mark.parametrize("how", ["lost after", "lost before", "cut", "html"])
def test_an_answer_that_does_not_come_makes_one_machine(
    paper: Cloud, order: Orders, how: Any
) -> None:
    paper.faults.append(Fault("RunInstances", how=how, times=1))
    machine = aws.create(OFFER, order())
    assert list(paper.instances) == [machine.id]
    tokens = {request.params["ClientToken"] for request in paper.asked("RunInstances")}
    assert tokens == {"cloudrun-abc-1-us-east-1a"}


@pytest.mark.parametrize("action", ["CreateSecurityGroup", "AuthorizeSecurityGroupIngress"])
def test_a_firewall_whose_answer_is_lost_is_made_once(
    paper: Cloud, order: Orders, action: str
) -> None:
    paper.faults.append(Fault(action, how="lost after", times=1))
    machine = aws.create(OFFER, order())
    assert machine.id in paper.instances


@pytest.mark.parametrize(
    ("code", "kind", "scope", "words"),
    [
        ("InsufficientInstanceCapacity", CannotHave, "zone", "no machine of this type"),
        ("Unsupported", CannotHave, "zone", "no machine of this type"),
        ("VcpuLimitExceeded", CannotHave, "region", "quota"),
        ("MaxSpotInstanceCountExceeded", CannotHave, "region", "quota"),
        ("UnauthorizedOperation", AccessDenied, None, "ec2:RunInstances"),
        ("ExpiredToken", AccessDenied, None, "have expired"),
        ("RequestExpired", AccessDenied, None, "have expired"),
        ("AuthFailure", AccessDenied, None, "does not accept your credentials"),
        ("PendingVerification", AccessDenied, None, "account at AWS is not ready"),
        ("OptInRequired", AccessDenied, None, "account at AWS is not ready"),
        ("Blocked", AccessDenied, None, "account at AWS is not ready"),
    ],
)
def test_every_refusal_is_told_apart_and_asked_once(
    paper: Cloud, order: Orders, code: str, kind: type[CloudrunError], scope: str, words: str
) -> None:
    paper.faults.append(Fault("RunInstances", code))
    with pytest.raises(kind, match=words) as caught:
        aws.create(OFFER, order())
    assert getattr(caught.value, "scope", None) == scope
    assert code in caught.value.why
    assert caught.value.try_this
    # botocore repeats what comes with status 500, as no capacity does; we do not.
    assert len(paper.asked("RunInstances")) == 1


def test_an_unknown_refusal_is_not_called_no_capacity(paper: Cloud, order: Orders) -> None:
    fault = Fault("RunInstances", "SomethingNew", status=400, message="It is Tuesday.")
    paper.faults.append(fault)
    with pytest.raises(Unavailable, match="SomethingNew: It is Tuesday") as caught:
        aws.create(OFFER, order())
    assert not isinstance(caught.value, CannotHave)


@pytest.mark.parametrize("code", ["RequestLimitExceeded", "InternalError", "Unavailable"])
def test_throttling_is_waited_for(paper: Cloud, order: Orders, code: str) -> None:
    paper.faults.append(Fault("RunInstances", code, times=2))
    machine = aws.create(OFFER, order())
    assert list(paper.instances) == [machine.id]


def test_endless_throttling_has_an_end(paper: Cloud, order: Orders) -> None:
    paper.faults.append(Fault("RunInstances", "RequestLimitExceeded"))
    with pytest.raises(Unavailable, match="did not start the machine") as caught:
        aws.create(OFFER, order())
    assert not isinstance(caught.value, CannotHave)


def test_the_newest_image_that_drives_the_gpu(paper: Cloud) -> None:
    t4 = images.choose("us-east-1", "T4", "g4dn.xlarge", None)
    assert t4.name.startswith("Deep Learning OSS Nvidia Driver AMI GPU PyTorch 2.13")
    assert images.choose("eu-west-1", "T4", "g4dn.xlarge", None).id != t4.id
    # AWS makes none any more for what is older than Turing.
    with pytest.raises(Unavailable, match="the proprietary driver"):
        images.choose("us-east-1", "V100 SXM2 16GB", "p3.2xlarge", None)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ThrottlingException"])
def test_without_the_parameters_images_are_found_by_name(paper: Cloud, code: str) -> None:
    paper.faults.append(Fault("GetParametersByPath", code))
    image = images.choose("us-east-1", "T4", "g4dn.xlarge", None)
    assert image.name.startswith("Deep Learning OSS Nvidia Driver AMI GPU PyTorch")


def test_an_image_that_does_not_list_the_family_is_not_taken(paper: Cloud) -> None:
    with pytest.raises(Unavailable, match=r"no Deep Learning image.*--image"):
        images.choose("us-east-1", "T4", "g3.4xlarge", None)


def test_a_parameter_that_leads_nowhere_is_no_end(paper: Cloud) -> None:
    paper.faults.append(
        Fault("DescribeImages", "InvalidAMIID.NotFound", status=400, message="Gone.", times=1)
    )
    assert "PyTorch" in images.choose("us-east-1", "T4", "g4dn.xlarge", None).name


def test_who_may_not_look_at_routes_gets_the_default_network(paper: Cloud, order: Orders) -> None:
    paper.deny.add("ec2:DescribeRouteTables")
    assert aws.create(OFFER, order()).id in paper.instances


@pytest.mark.parametrize("action", ["RunInstances", "AuthorizeSecurityGroupIngress"])
def test_a_firewall_that_is_not_known_everywhere_yet_is_waited_for(
    paper: Cloud, order: Orders, action: str
) -> None:
    paper.faults.append(
        Fault(action, "InvalidGroup.NotFound", status=400, message="Not yet.", times=2)
    )
    assert aws.create(OFFER, order()).id in paper.instances


def test_a_machine_that_nobody_can_reach_is_ended_at_once(paper: Cloud, order: Orders) -> None:
    paper.blind_s = 1.0
    paper.deny.add("ec2:AuthorizeSecurityGroupIngress")
    with pytest.raises(AccessDenied):
        aws.create(OFFER, order())
    aws.terminate("abc", "us-east-1", None)
    assert {instance.state for instance in paper.instances.values()} == {"terminated"}


def test_a_region_that_a_companys_rules_forbid_is_one_of_many(paper: Cloud, order: Orders) -> None:
    words = "You are not authorized, with an explicit deny in a service control policy."
    paper.faults.append(Fault("RunInstances", "UnauthorizedOperation", status=403, message=words))
    with pytest.raises(CannotHave) as caught:
        aws.create(OFFER, order())
    assert caught.value.scope == "region"


def test_an_image_of_ones_own(paper: Cloud) -> None:
    known = images.choose("us-east-1", "T4", "g4dn.xlarge", None)
    assert images.choose("us-east-1", "T4", "g3.4xlarge", known.id) == known
    for wrong in ("ami-00000000000000000", "nonsense"):
        with pytest.raises(WrongUsage, match="There is no image"):
            images.choose("us-east-1", "T4", "g4dn.xlarge", wrong)


def test_an_account_without_networks(paper: Cloud, order: Orders) -> None:
    ec2 = calls.client("ec2", "us-east-1")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    with pytest.raises(CannotHave, match="create-default-vpc") as caught:
        aws.create(OFFER, order())
    assert caught.value.scope == "region"
    assert not paper.asked("RunInstances")
    assert not paper.asked("CreateSecurityGroup")


def test_a_subnet_without_a_way_out_is_not_taken(paper: Cloud) -> None:
    ec2 = calls.client("ec2", "us-east-1")
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    vpc = ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
    made = ec2.create_subnet(
        VpcId=vpc, CidrBlock="10.99.1.0/24", AvailabilityZone="us-east-1a"
    )["Subnet"]["SubnetId"]  # fmt: skip
    with pytest.raises(CannotHave, match="a way out"):
        network.way_out("us-east-1", "us-east-1a", private=False)
    # By a VPN it can be reached all the same.
    assert network.way_out("us-east-1", "us-east-1a", private=True).id == made


def test_the_world_is_not_let_in() -> None:
    assert caller.caller("203.0.113.7", None) == "203.0.113.7/32"
    assert caller.caller("203.0.113.9/24", None) == "203.0.113.0/24"
    for wrong in ("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/7"):
        with pytest.raises(WrongUsage, match="to the world"):
            caller.caller(wrong, None)
    for wrong in ("me", "::/0", "203.0.113.7/33"):
        with pytest.raises(WrongUsage, match="not a range"):
            caller.caller(wrong, None)


def test_our_address_on_the_way_to_a_network() -> None:
    who = caller.caller(None, "127.0.0.0/8")
    assert ipaddress.ip_network(who) == ipaddress.ip_network("127.0.0.1/32")


def test_a_machine_that_never_answers_is_given_up_in_words(
    paper: Cloud, order: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper.pending_s = 3600
    machine = aws.create(OFFER, order())
    paper.console[machine.id] = "Kernel panic - not syncing\n"
    from cloudrun.hosts.base import NOBODY

    with pytest.raises(HostUnreachable, match=r"did not become ready.*Kernel panic"):
        aws.connect(machine, NOBODY, time.monotonic() + 1)


def test_who_has_moved_is_let_in_again(
    paper: Cloud, order: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloudrun.hosts.base import NOBODY

    here = ["198.51.100.1/32"]
    monkeypatch.setattr(caller, "caller", lambda _said, _subnet: here[0])
    monkeypatch.setattr(reach, "_LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(reach, "_answers", lambda _address: False)
    machine = aws.create(OFFER, order(need=msgspec.structs.replace(NEED, ssh_from=None)))

    def let_in() -> list[str]:
        asked = [r.params for r in paper.asked("AuthorizeSecurityGroupIngress")]
        return [each["IpPermissions"][0]["IpRanges"][0]["CidrIp"] for each in asked]

    with pytest.raises(HostUnreachable):
        aws.connect(machine, NOBODY, time.monotonic() + 1)
    assert let_in() == ["198.51.100.1/32"]
    here[0] = "198.51.100.2/32"
    with pytest.raises(HostUnreachable):
        aws.connect(machine, NOBODY, time.monotonic() + 1)
    assert let_in() == ["198.51.100.1/32", "198.51.100.2/32"]
    # A range that the user named is not widened.
    named = msgspec.structs.replace(machine, admits=None)
    with pytest.raises(HostUnreachable):
        aws.connect(named, NOBODY, time.monotonic() + 1)
    assert len(let_in()) == 2


def test_a_machine_that_ends_at_boot_is_given_up_at_once(paper: Cloud, order: Orders) -> None:
    paper.pending_s = 3600
    machine = aws.create(OFFER, order())
    paper.powered_off(machine.id)
    from cloudrun.hosts.base import NOBODY

    began = time.monotonic()
    with pytest.raises(HostUnreachable, match="powered itself off"):
        aws.connect(machine, NOBODY, began + 60)
    assert time.monotonic() - began < 20


def test_the_timer_powers_off_at_the_deadline_and_no_sooner(tmp_path: Any) -> None:
    """The script itself, with a `shutdown` that leaves a note."""
    from cloudrun.hosts import scripts

    done = tmp_path / "done"
    for name in ("shutdown", "poweroff"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {done}\nkill -9 $PPID\n')
        program.chmod(0o755)
    script = scripts.render("deadline.sh", deadline=int(time.time()) + 2, longest=3600)
    path = f"{tmp_path}:/usr/bin:/bin"
    began = time.monotonic()
    subprocess.run(["sh", "-c", script], env={"PATH": path}, check=True, timeout=10)
    assert time.monotonic() - began < 1.5, "the boot waits for the timer"
    assert not done.exists()
    appeared = threading.Event()
    while not done.exists() and time.monotonic() < began + 20:
        appeared.wait(0.05)
    assert done.read_text() == "shutdown -P now\n"
    assert time.monotonic() - began > 1


@pytest.mark.parametrize(("ahead", "longest", "left"), [(-50, 100, 1), (10**6, 3, 3)])
def test_a_wrong_clock_does_not_keep_it_alive(ahead: int, longest: int, left: int) -> None:
    from cloudrun.hosts import scripts

    script = scripts.render("deadline.sh", deadline=int(time.time()) + ahead, longest=longest)
    lines = script.rpartition("setsid")[0] + 'echo "$left"'
    done = subprocess.run(["sh", "-c", lines], capture_output=True, check=True, text=True)
    assert int(done.stdout) == left


def test_user_data_fits(paper: Cloud, order: Orders, tmp_path: Any) -> None:
    assert len(boot.user_data(keys.make(tmp_path), order().deadline, 1800).encode()) < 16_384 / 2


def test_an_offer_keeps_its_zone(paper: Cloud, order: Orders) -> None:
    offer: Offer = msgspec.structs.replace(OFFER, zone="us-east-1c")
    machine = aws.create(offer, order())
    assert paper.instances[machine.id].zone == "us-east-1c"
