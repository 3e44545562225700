"""Instances with real machines: what cloud-init does with user data, and how a machine ends."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest

from cloudrun.hosts.connection import connect
from tests.doubles import aws, machines
from tests.doubles.aws import BadBoot, RackedCloud
from tests.doubles.machines import Machine


@pytest.fixture
def ec2(cloud: RackedCloud) -> Any:
    return boto3.client("ec2")


def launch(ec2: Any, config: dict[str, Any] | str, image: str = "PyTorch 2.9", **more: Any) -> str:
    if isinstance(config, dict):
        config = "#cloud-config\n" + json.dumps(config)
    named = [{"Name": "name", "Values": [f"*{image}*"]}]
    found = ec2.describe_images(Filters=named)["Images"]
    asked = {"ImageId": found[0]["ImageId"], "InstanceType": "g4dn.xlarge", "MinCount": 1}
    made = ec2.run_instances(**asked, MaxCount=1, UserData=config, **more)
    return str(made["Instances"][0]["InstanceId"])


def described(ec2: Any, instance: str) -> dict[str, Any]:
    (reservation,) = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    (found,) = reservation["Instances"]
    return dict(found)


def up(cloud: RackedCloud, instance: str) -> Machine:
    machine = cloud.rack.machine(instance)
    assert machine.listening.wait(30)
    assert any("Server listening" in line for line in machine.log), machine.log
    return machine


def keys(path: Path) -> dict[str, str]:
    public = machines.make_key(path)
    return {"ed25519_private": path.read_text(), "ed25519_public": public}


def test_a_machine_has_the_keys_it_was_given(cloud: RackedCloud, ec2: Any, tmp_path: Path) -> None:
    host, user = keys(tmp_path / "host"), keys(tmp_path / "user")
    config = {
        "ssh_deletekeys": True,
        "ssh_keys": host,
        "users": ["default"],
        "ssh_authorized_keys": [user["ed25519_public"]],
        "write_files": [{"path": "/etc/told", "content": "told\n", "permissions": "0600"}],
        "package_update": False,
    }
    instance = launch(ec2, config)
    machine = up(cloud, instance)
    address = described(ec2, instance)["PublicIpAddress"]
    assert address == described(ec2, instance)["PrivateIpAddress"] == machine.address
    known = tmp_path / "known"
    known.write_text(f"{address} {host['ed25519_public']}\n")
    hop = machines.hop(machine, host=address, keys=(tmp_path / "user",))
    with connect([hop], known) as connection:
        channel = connection.transport.open_session()
        channel.exec_command("whoami; ls -l /etc/told; /opt/pytorch/bin/python -c 'print(6*7)'")
        said = channel.makefile().read().decode().split()
    assert (said[0], said[1], said[-1]) == ("ubuntu", "-rw-------", "42")
    assert (machine.root / "etc/told").read_text() == "told\n"


def test_bootcmd_runs_in_order_before_sshd_and_its_children_live_on(
    cloud: RackedCloud, ec2: Any
) -> None:
    config = {
        "bootcmd": [
            "pgrep -x sshd && echo sshd >>/run/order",
            ["sh", "-c", "echo 'first  one' >>/run/order"],
            "false",
            "sleep 1234 & echo second >>/run/order",
        ],
        "runcmd": ["pgrep -x sshd >/dev/null && echo third >>/run/order; touch /run/done"],
    }
    machine = up(cloud, launch(ec2, config))
    machine.run("sh", "-c", "while [ ! -e /run/done ]; do sleep .01; done")
    assert (machine.root / "run/order").read_text() == "first  one\nsecond\nthird\n"
    assert "sleep 1234" in machines.processes(machine)


def test_a_base_image_has_no_torch_of_its_own(cloud: RackedCloud, ec2: Any) -> None:
    machine = up(cloud, launch(ec2, {}, image="Base OSS Nvidia Driver GPU AMI (Ubuntu 24"))
    assert not (machine.root / "opt/pytorch").exists()
    machine.run("python3", "-c", "pass")


@pytest.mark.parametrize("how", ["shutdown -P now", "poweroff", "/usr/sbin/shutdown -h +0"])
def test_a_power_off_from_inside_terminates_if_told_to(
    cloud: RackedCloud, ec2: Any, how: str
) -> None:
    instance = launch(ec2, {"bootcmd": [how]}, InstanceInitiatedShutdownBehavior="terminate")
    cloud.rack.join()
    found = described(ec2, instance)
    assert found["State"]["Name"] == "terminated"
    assert found["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"
    assert not ec2.describe_volumes()["Volumes"]


def test_a_power_off_from_inside_stops_by_default_and_the_disk_stays(
    cloud: RackedCloud, ec2: Any
) -> None:
    instance = launch(ec2, {"bootcmd": ["systemctl --no-block poweroff"]})
    cloud.rack.join()
    assert described(ec2, instance)["State"]["Name"] == "stopped"
    (volume,) = ec2.describe_volumes()["Volumes"]
    assert volume["State"] == "in-use"


def test_halt_does_not_end_an_instance(cloud: RackedCloud, ec2: Any) -> None:
    instance = launch(ec2, {}, InstanceInitiatedShutdownBehavior="terminate")
    machine = up(cloud, instance)
    with pytest.raises(subprocess.CalledProcessError):
        machine.run("halt")
    assert "sshd" not in machines.processes(machine)
    assert machine.process.poll() is None
    assert described(ec2, instance)["State"]["Name"] == "running"


def test_a_time_to_shut_down_at_needs_logind(cloud: RackedCloud, ec2: Any) -> None:
    machine = up(cloud, launch(ec2, {"bootcmd": ["shutdown -P +1 2>/run/said || touch /run/no"]}))
    assert (machine.root / "run/no").exists()
    assert "Failed to connect to bus" in (machine.root / "run/said").read_text()
    machine.run("sh", "-c", "shutdown -P +1; while [ ! -e /run/shutdown.pid ]; do sleep .01; done")
    assert "sleep 60" in machines.processes(machine)
    machine.run("sh", "-c", "shutdown -c; while pgrep -f '^sleep 60'; do sleep .01; done")
    assert "sleep 60" not in machines.processes(machine)


def test_a_reboot_runs_bootcmd_again(cloud: RackedCloud, ec2: Any) -> None:
    machine = up(cloud, launch(ec2, {"bootcmd": ["echo booted >>/etc/boots"]}))
    with pytest.raises(subprocess.CalledProcessError):
        machine.run("reboot")
    twice = "booted\nbooted\n"
    machine.run(
        "sh", "-c", f"until [ \"$(cat /etc/boots)\" = '{twice.strip()}' ]; do sleep .01; done"
    )


def test_systemctl_takes_what_it_can_without_systemd(cloud: RackedCloud, ec2: Any) -> None:
    machine = up(cloud, launch(ec2, {}))
    for words in ("mask apt-daily.timer", "stop --now apt-daily.timer", "daemon-reload"):
        machine.run("systemctl", *words.split())
    for words in ("start ours.service", "conjure ours.service"):
        with pytest.raises(subprocess.CalledProcessError):
            machine.run("systemctl", *words.split())


def test_terminating_pulls_the_plug(cloud: RackedCloud, ec2: Any) -> None:
    instance = launch(ec2, {})
    machine = up(cloud, instance)
    ec2.terminate_instances(InstanceIds=[instance])
    assert machine.process.wait(10) is not None
    found = described(ec2, instance)
    assert (found["State"]["Name"], found.get("PublicIpAddress")) == ("terminated", None)


def test_terminating_in_the_boot_pulls_the_plug_too(cloud: RackedCloud, ec2: Any) -> None:
    instance = launch(ec2, {"bootcmd": ["sleep 1000"]})
    ec2.terminate_instances(InstanceIds=[instance])
    cloud.rack.join()
    assert described(ec2, instance)["State"]["Name"] == "terminated"


def test_a_spot_interruption_gives_notice_and_takes_the_machine(
    cloud: RackedCloud, ec2: Any
) -> None:
    instance = launch(ec2, {}, InstanceMarketOptions={"MarketType": "spot"})
    machine = up(cloud, instance)
    cloud.interrupt(instance, notice_s=120)
    cloud.clock.skip(119)
    assert machine.process.poll() is None
    cloud.clock.skip(1)
    assert machine.process.wait(10) is not None
    assert described(ec2, instance)["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_sshd_comes_after_the_boot_delay(cloud: RackedCloud, ec2: Any) -> None:
    cloud.rack.boot_s = 1000
    machine = cloud.rack.machine(launch(ec2, {}))
    waiting = "until pgrep -f '^sleep 1000'; do sleep .01; done"
    machine.run("timeout", "20", "sh", "-c", waiting)
    assert "sshd" not in machines.processes(machine)
    assert not machine.listening.is_set()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("#!/bin/sh\ntrue\n", "must begin with #cloud-config"),
        ("#cloud-config\nbootcmd: [\n", "while parsing"),
        ("#cloud-config\n- bootcmd\n", "must be a mapping"),
        ({"bootcmds": []}, "knows no bootcmds"),
        ({"bootcmd": "true"}, "bootcmd must be a list"),
        ({"bootcmd": [{"run": "true"}]}, "a command must be text"),
        ({"ssh_keys": {"rsa_private": ""}}, "ed25519 keys only"),
        ({"users": ["default", {"name": "eve"}]}, "has ubuntu only"),
        ({"write_files": [{"path": "/a", "mode": "1"}]}, "knows no mode"),
        ({"write_files": [{"path": "/a", "permissions": 420}]}, "must be text"),
    ],
)
def test_user_data_that_cloud_init_would_not_take_fails_the_test(
    bridge: str, tmp_path: Path, config: dict[str, Any] | str, words: str
) -> None:
    with pytest.raises(BadBoot, match=words), aws.cloud(bridge, tmp_path / "aws") as cloud:
        ec2 = aws.client(cloud, "ec2")
        with pytest.raises(ec2.exceptions.ClientError, match=words):
            launch(ec2, config)


def test_a_host_key_that_does_not_fit_fails_the_test(tmp_path: Path) -> None:
    one, other = keys(tmp_path / "one"), keys(tmp_path / "other")
    mixed = {**one, "ed25519_public": other["ed25519_public"]}
    data = f"#cloud-config\n{json.dumps({'ssh_keys': mixed})}".encode()
    with pytest.raises(BadBoot, match="do not belong together"):
        aws._sow(tmp_path / "seed", data, "", 0)


def test_a_machine_that_does_not_start_fails_the_test(bridge: str, tmp_path: Path) -> None:
    # The number of its address is taken.
    taken = f"crv{bridge.removeprefix('crbr')}-20"
    subprocess.run(["ip", "netns", "add", taken], check=True)
    try:
        with (
            pytest.raises(BadBoot, match="File exists"),
            aws.cloud(bridge, tmp_path / "aws") as cloud,
        ):
            ec2 = aws.client(cloud, "ec2")
            instance = launch(ec2, {})
            cloud.rack.join()
            assert described(ec2, instance)["StateReason"]["Code"] == "Server.InternalError"
        # What killed tests leave is cleared away by the next to have the subnet.
        machines._sweep(bridge.removeprefix("crbr"))
        assert not Path("/run/netns", taken).exists()
    finally:
        subprocess.run(["ip", "netns", "delete", taken], capture_output=True)


def test_without_a_key_nobody_comes_in(cloud: RackedCloud, ec2: Any) -> None:
    machine = up(cloud, launch(ec2, {"users": []}))
    assert (machine.home / ".ssh/authorized_keys").read_text() == ""
