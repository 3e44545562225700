"""A machine at Google: what is ordered, what goes wrong, what it costs to be unlucky."""

from __future__ import annotations

import importlib
import json
import time
import uuid
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
from cloudrun.hosts.base import NOBODY
from cloudrun.providers import caller, gcp, keys, reach
from cloudrun.providers.base import Order
from cloudrun.providers.gcp import images
from tests.doubles import gce_world
from tests.doubles.gce import Cloud
from tests.doubles.gce_faults import Fault, no_capacity, no_quota
from tests.providers.gcp.conftest import NEED, OFFER

Orders = Callable[..., Order]
pytestmark = pytest.mark.usefixtures("impatient")


def body_of(cloud: Cloud) -> dict[str, Any]:
    (request,) = cloud.asked("instances.insert")
    return dict(request.body)


def metadata(body: dict[str, Any]) -> dict[str, str]:
    return {item["key"]: item["value"] for item in body["metadata"]["items"]}


def test_the_order_says_everything_at_once(paper: Cloud, order: Orders) -> None:
    ours = order()
    machine = gcp.create(OFFER, ours)
    body = body_of(paper)
    assert body["name"] == machine.id == "cloudrun-abc-1"
    assert body["machineType"].endswith("zones/us-central1-a/machineTypes/n1-standard-4")
    (gpu,) = body["guestAccelerators"]
    assert gpu["acceleratorType"].endswith("us-central1-a/acceleratorTypes/nvidia-tesla-t4")
    assert gpu["acceleratorCount"] == 1
    (disk,) = body["disks"]
    assert (disk["boot"], disk["autoDelete"]) == (True, True)
    deadline = str(int(datetime.fromisoformat(ours.deadline).timestamp()))
    for labels in (body["labels"], disk["initializeParams"]["labels"]):
        assert labels["cloudrun-run"] == "abc"
        assert labels["cloudrun-deadline"] == deadline
        assert labels["cloudrun-owner"]
    # No credentials of anybody's go there.
    assert "serviceAccounts" not in body
    shielded = body["shieldedInstanceConfig"]
    assert (shielded["enableVtpm"], shielded["enableIntegrityMonitoring"]) == (True, True)
    assert (machine.user, machine.offer) == ("ubuntu", OFFER)


@pytest.mark.parametrize("spot", [False, True])
def test_the_cloud_itself_keeps_the_deadline(paper: Cloud, order: Orders, spot: bool) -> None:
    gcp.create(msgspec.structs.replace(OFFER, spot=spot), order(ttl_s=1800))
    scheduling = body_of(paper)["scheduling"]
    assert 1790 <= int(scheduling["maxRunDuration"]["seconds"]) <= 1800
    assert scheduling["instanceTerminationAction"] == "DELETE"
    assert scheduling["automaticRestart"] is False
    assert scheduling["onHostMaintenance"] == "TERMINATE"
    assert scheduling["provisioningModel"] == ("SPOT" if spot else "STANDARD")


def test_the_shortest_that_google_takes(paper: Cloud, order: Orders) -> None:
    gcp.create(OFFER, order(ttl_s=5))
    assert body_of(paper)["scheduling"]["maxRunDuration"] == {"seconds": "30"}


def test_the_machines_own_timer_comes_after_the_clouds(paper: Cloud, order: Orders) -> None:
    ours = order()
    machine = gcp.create(OFFER, ours)
    said = metadata(body_of(paper))
    later = int(datetime.fromisoformat(ours.deadline).timestamp()) + 60
    config = json.loads(said["user-data"].partition("\n")[2])
    assert next(iter(config)) == "bootcmd"
    for script in (config["bootcmd"][0][2], said["startup-script"]):
        assert f"deadline={later}\n" in script
        assert "shutdown -P now" in script
    assert config["ssh_keys"]["ed25519_public"] == machine.host_key
    assert (ours.folder / keys.KEY).read_text() not in str(said)


def test_the_runs_own_key_is_the_only_one(paper: Cloud, order: Orders) -> None:
    ours = order()
    gcp.create(OFFER, ours)
    said = metadata(body_of(paper))
    assert said["enable-oslogin"] == "FALSE"
    assert said["block-project-ssh-keys"] == "TRUE"
    assert said["ssh-keys"] == f"ubuntu:{keys.make(ours.folder).public}"


def rules(cloud: Cloud) -> dict[str, dict[str, Any]]:
    return {name: dict(cloud.resources["firewalls", "", name]) for name in cloud.named("firewalls")}


def test_only_the_caller_can_get_in(paper: Cloud, order: Orders) -> None:
    del paper.resources["firewalls", "", "default-allow-ssh"]
    gcp.create(OFFER, order())
    ((name, rule),) = rules(paper).items()
    assert name.startswith("cloudrun-abc-us-central1")
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["22"]}]
    assert (rule["direction"], rule["sourceRanges"]) == ("INGRESS", ["192.0.2.7/32"])
    assert rule["targetTags"] == body_of(paper)["tags"]["items"]


def test_where_the_default_network_lets_the_world_in_that_is_undone(
    paper: Cloud, order: Orders
) -> None:
    gcp.create(OFFER, order())
    ours = {name: rule for name, rule in rules(paper).items() if name.startswith("cloudrun")}
    (let_in,) = [rule for rule in ours.values() if "allowed" in rule]
    (keep_out,) = [rule for rule in ours.values() if "denied" in rule]
    assert let_in["priority"] < keep_out["priority"] < 65534
    assert keep_out["denied"] == [{"IPProtocol": "all"}]
    assert keep_out["targetTags"] == let_in["targetTags"]
    assert let_in["sourceRanges"] == ["192.0.2.7/32"]


def test_private_machines_have_no_public_address(
    paper: Cloud, order: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def towards(network: str) -> str:
        asked.append(network)
        return "10.8.0.2"

    monkeypatch.setattr(caller, "_address_towards", towards)
    need = msgspec.structs.replace(NEED, private_ip=True, ssh_from=None)
    gcp.create(OFFER, order(need=need))
    (interface,) = body_of(paper)["networkInterfaces"]
    assert "accessConfigs" not in interface
    assert asked == ["10.128.0.0/20"]
    ranges = [rule["sourceRanges"] for name, rule in rules(paper).items() if "let-in" in name]
    assert ranges == [["10.8.0.2/32"]]


def test_a_disk_is_never_smaller_than_the_image(paper: Cloud, order: Orders) -> None:
    for number, (wanted, made) in enumerate(((10, 50), (500, 500)), 1):
        need = msgspec.structs.replace(NEED, disk_gb=wanted)
        gcp.create(OFFER, order(attempt=number, need=need))
        asked = paper.asked("instances.insert")[-1].body["disks"][0]["initializeParams"]
        assert int(asked["diskSizeGb"]) == made
        assert asked["diskType"].endswith("pd-balanced")


@pytest.mark.parametrize("how", ["lost after", "lost before", "cut", "html"])
@pytest.mark.parametrize("method", ["instances.insert", "firewalls.insert"])
def test_an_answer_that_does_not_come_makes_one_machine(
    paper: Cloud, order: Orders, how: Any, method: str
) -> None:
    paper.faults.append(Fault(method, how=how, times=1))
    machine = gcp.create(OFFER, order())
    assert list(paper.instances) == [machine.id]
    (request,) = {each.params["requestId"] for each in paper.asked("instances.insert")}
    assert uuid.UUID(request).int


def test_the_orders_id_is_that_of_run_attempt_and_zone(paper: Cloud, order: Orders) -> None:
    elsewhere = msgspec.structs.replace(OFFER, zone="us-central1-b")
    for offer, ours in (
        (OFFER, order()), (OFFER, order()), (OFFER, order(attempt=2)),
        (elsewhere, order(attempt=3)), (OFFER, order(run="other")),
    ):  # fmt: skip
        paper.resources = {k: v for k, v in paper.resources.items() if k[0] != "instances"}
        gcp.create(offer, ours)
    ids = [request.params["requestId"] for request in paper.asked("instances.insert")]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 4


@pytest.mark.parametrize("method", ["zoneOperations.wait", "globalOperations.wait"])
def test_an_operation_is_asked_for_again(paper: Cloud, order: Orders, method: str) -> None:
    paper.provision_s = 0.2
    paper.faults += [Fault(method, how="lost before", times=1), Fault(method, "backendError",
                                                                      times=1)]  # fmt: skip
    machine = gcp.create(OFFER, order())
    assert paper.instances[machine.id]["status"] == "RUNNING"


def test_the_same_machine_when_google_has_forgotten_the_first_order(
    paper: Cloud, order: Orders
) -> None:
    ours = order()
    machine = gcp.create(OFFER, ours)
    paper.request_ids.clear()
    assert gcp.create(OFFER, ours).id == machine.id
    paper.request_ids.clear()
    with pytest.raises(Unavailable, match="alreadyExists"):
        gcp.create(OFFER, order(ttl_s=60))


@pytest.mark.parametrize(
    ("fault", "kind", "scope", "words"),
    [
        (no_capacity(), CannotHave, "zone", "no machine of this type"),
        (Fault("instances.insert", "ZONE_RESOURCE_POOL_EXHAUSTED", "operation"), CannotHave,
         "zone", "no machine of this type"),
        (Fault("instances.insert", "UNSUPPORTED_OPERATION", "operation"), CannotHave, "zone",
         "no machine of this type"),
        (Fault("instances.insert", "insufficientCapacity"), CannotHave, "zone", "no machine"),
        (no_quota(), CannotHave, "region", "does not allow this machine here"),
        (Fault("instances.insert", "quotaExceeded"), CannotHave, "region", "quota"),
        (no_quota("GPUS_ALL_REGIONS"), CannotHave, "cloud", "no more GPU anywhere"),
        (Fault("instances.insert", "forbidden"), AccessDenied, None, "compute.instances.create"),
        (Fault("instances.insert", "authError"), AccessDenied, None, "does not accept"),
        (Fault("instances.insert", "accessNotConfigured"), AccessDenied, None, "not enabled"),
        (Fault("instances.insert", "billingNotEnabled"), AccessDenied, None, "no billing"),
    ],
)  # fmt: skip
def test_every_refusal_is_told_apart_and_asked_once(
    paper: Cloud, order: Orders, fault: Fault, kind: type[CloudrunError], scope: str, words: str
) -> None:
    fault.fitted = 0
    paper.faults.append(fault)
    with pytest.raises(kind, match=words) as caught:
        gcp.create(OFFER, order())
    assert getattr(caught.value, "scope", None) == scope
    assert fault.code in caught.value.why
    assert caught.value.try_this
    assert len(paper.asked("instances.insert")) == 1
    assert not paper.instances


def test_a_stock_out_names_the_zones_that_have_some(paper: Cloud, order: Orders) -> None:
    paper.faults.append(no_capacity(zones_available="us-central1-c,us-central1-f"))
    with pytest.raises(CannotHave) as caught:
        gcp.create(OFFER, order())
    assert caught.value.elsewhere == ("us-central1-c", "us-central1-f")


@pytest.mark.parametrize("how", ["error", "operation"])
def test_an_unknown_refusal_is_not_called_no_capacity(
    paper: Cloud, order: Orders, how: Any
) -> None:
    fault = Fault("instances.insert", "SOMETHING_NEW", how, status=400, message="It is Tuesday.")
    paper.faults.append(fault)
    with pytest.raises(Unavailable, match="SOMETHING_NEW: It is Tuesday") as caught:
        gcp.create(OFFER, order())
    assert not isinstance(caught.value, CannotHave)


@pytest.mark.parametrize("code", ["rateLimitExceeded", "backendError", "internalError"])
def test_throttling_is_waited_for(paper: Cloud, order: Orders, code: str) -> None:
    paper.faults.append(Fault("instances.insert", code, times=2))
    machine = gcp.create(OFFER, order())
    assert list(paper.instances) == [machine.id]


def test_endless_throttling_has_an_end(paper: Cloud, order: Orders) -> None:
    paper.faults.append(Fault("instances.insert", "rateLimitExceeded"))
    with pytest.raises(Unavailable, match="did not start the machine") as caught:
        gcp.create(OFFER, order())
    assert not isinstance(caught.value, CannotHave)


def test_an_operation_that_never_ends_is_given_up(
    paper: Cloud, order: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("cloudrun.providers.gcp.create")
    monkeypatch.setattr(module, "_ORDER_S", 0.1)
    monkeypatch.setattr("tests.doubles.gce._WAIT_S", 0.1)
    paper.provision_s = 3600
    with pytest.raises(HostUnreachable, match="has not ended in"):
        gcp.create(OFFER, order())


def test_a_type_that_the_zone_does_not_have_is_the_zones_fault(paper: Cloud, order: Orders) -> None:
    del paper.resources["acceleratorTypes", "us-central1-a", "nvidia-tesla-t4"]
    with pytest.raises(CannotHave, match="acceleratorTypes") as caught:
        gcp.create(OFFER, order())
    assert caught.value.scope == "zone"


def test_the_usual_image_and_when_its_family_is_gone_the_newest(paper: Cloud) -> None:
    assert images.choose("T4", None).link.endswith(f"{images.FAMILY}-v20260909")
    for key in [key for key in paper.resources if key[0] == "images" and images.FAMILY in key[2]]:
        del paper.resources[key]
    old = images.choose("T4", None)
    assert old.link.endswith("pytorch-2-9-cu129-ubuntu-2204-nvidia-580-v20260909")
    gce_world.add_image(paper.resources, "pytorch-2-14-cu132-ubuntu-2604-nvidia-600", "20270101")
    assert "pytorch-2-14" in images.choose("L4", None).link
    # NVIDIA's drivers after 580 have let Volta go.
    assert images.choose("V100 SXM2 16GB", None) == old


def test_no_image_of_googles(paper: Cloud) -> None:
    for key in [key for key in paper.resources if key[0] == "images"]:
        del paper.resources[key]
    with pytest.raises(Unavailable, match=r"no Deep Learning image.*--image"):
        images.choose("T4", None)


def test_an_image_of_ones_own(paper: Cloud) -> None:
    known = images.choose("T4", None)
    name = known.link.rpartition("/")[2]
    path = f"projects/{gce_world.IMAGES}/global/images"
    assert images.choose("T4", f"{path}/{name}") == known
    assert images.choose("T4", f"{path}/family/{images.FAMILY}") == known
    for wrong in ("nothing", f"{path}/nothing", "no such/thing"):
        with pytest.raises(WrongUsage, match="There is no image"):
            images.choose("T4", wrong)


def test_a_project_without_networks(paper: Cloud, order: Orders) -> None:
    del paper.resources["networks", "", "default"]
    with pytest.raises(CannotHave, match="gcloud compute networks create") as caught:
        gcp.create(OFFER, order())
    assert caught.value.scope == "region"
    assert not paper.asked("instances.insert")


def test_a_network_that_makes_its_subnets_needs_none_named(paper: Cloud, order: Orders) -> None:
    del paper.resources["subnetworks", "us-central1", "default"]
    gcp.create(OFFER, order())
    (interface,) = body_of(paper)["networkInterfaces"]
    assert "subnetwork" not in interface


def test_who_may_not_look_at_networks_may_use_the_default_one(paper: Cloud, order: Orders) -> None:
    paper.deny |= {"compute.networks.list", "compute.subnetworks.list"}
    gcp.create(OFFER, order())
    (interface,) = body_of(paper)["networkInterfaces"]
    assert interface["network"] == "global/networks/default"


def test_a_machine_that_never_answers_is_given_up_in_words(
    paper: Cloud, order: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = gcp.create(OFFER, order())
    paper.instances[machine.id]["networkInterfaces"] = [{}]
    paper.console[machine.id] = "Kernel panic - not syncing\n"
    with pytest.raises(HostUnreachable, match=r"did not become ready.*Kernel panic"):
        gcp.connect(machine, NOBODY, time.monotonic() + 0.5)


def test_a_machine_that_ends_at_boot_is_given_up_at_once(paper: Cloud, order: Orders) -> None:
    machine = gcp.create(OFFER, order())
    paper.powered_off(machine.id)
    began = time.monotonic()
    with pytest.raises(HostUnreachable, match="TERMINATED"):
        gcp.connect(machine, NOBODY, began + 60)
    assert time.monotonic() - began < 20


def test_who_has_moved_is_let_in_again(
    paper: Cloud, order: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ["198.51.100.1/32"]
    monkeypatch.setattr(caller, "caller", lambda _said, _network: here[0])
    monkeypatch.setattr(reach, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(reach, "_TRY_EVERY_S", 0.02)
    monkeypatch.setattr(reach, "_answers", lambda _address: False)
    machine = gcp.create(OFFER, order(need=msgspec.structs.replace(NEED, ssh_from=None)))

    def let_in() -> list[str]:
        ours = [rule for name, rule in rules(paper).items() if "let-in" in name]
        return sorted(rule["sourceRanges"][0] for rule in ours)

    for moved in ("198.51.100.1/32", "198.51.100.2/32"):
        here[0] = moved
        with pytest.raises(HostUnreachable):
            gcp.connect(machine, NOBODY, time.monotonic() + 0.5)
    assert let_in() == ["198.51.100.1/32", "198.51.100.2/32"]
    # A range that the user named is not widened.
    here[0] = "198.51.100.3/32"
    named = msgspec.structs.replace(machine, admits=None)
    with pytest.raises(HostUnreachable):
        gcp.connect(named, NOBODY, time.monotonic() + 0.5)
    assert len(let_in()) == 2
    gcp.terminate("abc", "us-central1", machine)
    assert let_in() == []


def test_a_machine_that_nobody_can_reach_is_not_kept(paper: Cloud, order: Orders) -> None:
    paper.deny.add("compute.firewalls.create")
    with pytest.raises(AccessDenied, match="compute.firewalls.create"):
        gcp.create(OFFER, order())
    assert not paper.instances
