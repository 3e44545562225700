"""The command line against a simulated AWS with real machines, as its user would use it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cloudrun import settings
from cloudrun.launcher.journal import Journal
from cloudrun.rehearsal.faults import Fault, no_capacity
from cloudrun.rehearsal.wire import Request
from tests.conftest import Cloudrun
from tests.doubles import aws
from tests.doubles.aws import RackedCloud
from tests.e2e.conftest import Popen, Start, wait

EAST = ("--on", "aws/us-east-1", "--gpu", "T4", "--yes", "--ssh-from", "10.99.0.0/16")


def alive(cloud: RackedCloud) -> list[str]:
    over = ("shutting-down", "terminated")
    return [each.id for each in cloud.instances.values() if each.state not in over]


def groups(cloud: RackedCloud, region: str = "us-east-1") -> list[str]:
    found = aws.client(cloud, "ec2", region).describe_security_groups()["SecurityGroups"]
    return [group["GroupName"] for group in found if group["GroupName"] != "default"]


def nothing_is_left(cloud: RackedCloud) -> bool:
    volumes = aws.client(cloud, "ec2").describe_volumes()["Volumes"]
    return not (alive(cloud) or groups(cloud) or groups(cloud, "us-west-2") or volumes)


@pytest.mark.xdist_group("torch")
def test_a_launch_tells_the_truth_and_leaves_nothing(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    done = cloudrun("launch", *EAST, "--workload", "smoke", "--json")
    report = json.loads(done.stdout)
    # The machine of these tests has no GPU: that is what the report must say.
    assert (done.returncode, report["outcome"]) == (1, "failed"), done.stderr
    failed = {check["name"] for check in report["checks"] if check["status"] == "fail"}
    assert failed == {"driver", "device"}
    assert report["machine"] | {"price_as_of": ""} == {
        "provider": "aws",
        "region": "us-east-1",
        "zone": "us-east-1a",
        "instance_type": "g4dn.xlarge",
        "spot": False,
        "price_usd_per_hour": 0.526,
        "price_as_of": "",
    }
    assert nothing_is_left(cloud)
    assert report["cost"]["usd"] == pytest.approx(_lived_s(cloud) / 3600 * 0.526, rel=0.1)
    assert "0.0.0.0/0" not in str([request.params for request in cloud.requests])


def _lived_s(cloud: RackedCloud) -> float:
    """How long the machine lived, by the requests that it began and ended with."""
    times = {request.action: request.at for request in cloud.requests}
    return times["TerminateInstances"] - times["RunInstances"]


def test_a_command_runs_there_and_its_results_come_home(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    (project / "train.sh").write_text("echo hello; hostname > results/where; exit 3\n")
    done = cloudrun("run", *EAST, "--", "sh", "train.sh")
    assert (done.returncode, done.stdout) == (3, "hello\n"), done.stderr
    assert (project / "results" / "where").read_text().startswith("crv")
    assert nothing_is_left(cloud)


def test_the_next_zone_then_the_next_region_is_tried(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    cloud.faults += [
        no_capacity(zone="us-east-1a"),
        Fault("RunInstances", "VcpuLimitExceeded", region="us-east-1", zone="us-east-1b"),
    ]
    done = cloudrun("run", "--on", "aws/us-east-1,aws/us-west-2", *EAST[2:], "--", "true")
    assert done.returncode == 0, done.stderr
    assert [r.zone for r in cloud.asked("RunInstances")] == [
        "us-east-1a", "us-east-1b", "us-west-2a",
    ]  # fmt: skip
    assert "no machine of this type" in done.stderr
    assert "quota" in done.stderr
    assert nothing_is_left(cloud)


def test_when_nothing_can_be_had_all_reasons_are_told(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    cloud.faults.append(no_capacity())
    done = cloudrun("run", "--max-price", "0.6", *EAST, "--", "true")
    assert done.returncode == 69
    assert "None of the 5 offers that were tried" in done.stderr
    assert len(cloud.asked("RunInstances")) == 5
    assert nothing_is_left(cloud)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("UnauthorizedOperation", 77),
        ("ExpiredToken", 77),
        pytest.param("Blocked", 77, marks=pytest.mark.thorough),
    ],
)
def test_what_no_other_zone_can_mend_ends_at_once(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path, code: str, status: int
) -> None:
    cloud.faults.append(Fault("RunInstances", code))
    done = cloudrun("run", *EAST, "--", "true")
    assert done.returncode == status, done.stderr
    assert len(cloud.asked("RunInstances")) == 1
    assert nothing_is_left(cloud)


@pytest.mark.parametrize(
    ("action", "when"),
    [
        pytest.param("CreateSecurityGroup", "after", marks=pytest.mark.thorough),
        ("RunInstances", "before"),
        ("RunInstances", "after"),
        ("DescribeInstances", "before"),
        ("TerminateInstances", "before"),
        ("TerminateInstances", "after"),
        pytest.param("DeleteSecurityGroup", "before", marks=pytest.mark.thorough),
    ],
)
def test_a_cloudrun_that_is_killed_at_any_call_leaves_nothing_that_leaks_does_not_end(
    cloud: RackedCloud, cloudrun: Cloudrun, start: Start, project: Path, action: str, when: str
) -> None:
    killed = threading.Event()

    def kill(request: Request, *_answer: object) -> None:
        if request.action == action and not killed.is_set():
            killed.set()
            process.kill()
            process.wait()

    setattr(cloud, when, kill)
    process = start("run", *EAST, "--", "true")
    wait(lambda: process.poll() is not None, "it goes on")
    assert killed.is_set(), process.communicate()
    cloud.before = cloud.after = None
    # Who may not list the regions looks into one, which is quicker than into all.
    cloud.deny.add("ec2:DescribeRegions")
    done = cloudrun("leaks", "--kill")
    assert done.returncode == 0, done.stderr
    assert nothing_is_left(cloud)
    assert cloudrun("ps").stdout == ""


def test_without_a_journal_leaks_finds_it_all_the_same(
    cloud: RackedCloud, cloudrun: Cloudrun, start: Start, project: Path
) -> None:
    process = _running(start, cloud)
    process.kill()
    process.wait()
    settings.places().state.rename(settings.places().state.with_name("lost"))
    listed = cloudrun("leaks", "--json")
    rows = json.loads(listed.stdout)
    assert {row["kind"] for row in rows} == {"machine", "disk", "firewall"}
    assert {row["leak"] for row in rows} == {"left over"}
    assert cloudrun("leaks", "--kill").returncode == 0
    assert nothing_is_left(cloud)


def _running(start: Start, cloud: RackedCloud, *options: str) -> Popen:
    """A run whose command has said its first word."""
    process = start("run", *options, *EAST, "--", "sh", "-c", "echo ready; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_a_run_stops_the_machine(
    cloud: RackedCloud, start: Start, project: Path, number: signal.Signals
) -> None:
    process = _running(start, cloud)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert nothing_is_left(cloud)


@pytest.mark.parametrize("action", ["CreateSecurityGroup", "RunInstances", "DescribeInstances"])
def test_ctrl_c_in_the_middle_of_an_order_waits_for_its_answer(
    cloud: RackedCloud, start: Start, project: Path, action: str
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        if request.action == action and not asked.is_set():
            asked.set()
            go_on.wait(30)

    cloud.before = hold
    process = start("run", *EAST, "--", "true")
    assert asked.wait(30)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    go_on.set()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert nothing_is_left(cloud)


@pytest.mark.parametrize("options", [(), pytest.param(("--detach",), marks=pytest.mark.thorough)])
def test_a_second_ctrl_c_during_an_order_stops_at_once_and_names_what_may_be_left(
    cloud: RackedCloud, cloudrun: Cloudrun, start: Start, project: Path, options: tuple[str, ...]
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        if request.action == "RunInstances":
            asked.set()
            go_on.wait(30)

    cloud.before = hold
    process = start("run", *options, *EAST, "--", "true")
    assert asked.wait(30)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130, said
    assert "leaks --kill" in said
    go_on.set()
    wait(lambda: cloud.instances, "the order is lost")
    cloud.deny.add("ec2:DescribeRegions")
    assert cloudrun("leaks", "--kill").returncode == 0
    assert nothing_is_left(cloud)


def test_the_machine_ends_itself_at_its_deadline_with_nobody_there(
    cloud: RackedCloud, start: Start, project: Path
) -> None:
    process = _running(start, cloud, "--ttl", "8s")
    process.kill()
    wait(lambda: not alive(cloud), "the machine lives on")
    (instance,) = cloud.instances.values()
    assert instance.reason[0] == "Client.InstanceInitiatedShutdown"
    assert not cloud.asked("TerminateInstances")


def test_the_deadline_stops_the_job_and_brings_home_what_there_is(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    script = "echo half > results/half; sleep 1000"
    done = cloudrun("run", *EAST, "--ttl", "10s", "--", "sh", "-c", script)
    assert done.returncode == 75, done.stderr
    assert (project / "results" / "half").read_text() == "half\n"
    assert nothing_is_left(cloud)


def test_credentials_that_expire_halfway_are_told_and_nothing_is_forgotten(
    cloud: RackedCloud, cloudrun: Cloudrun, start: Start, project: Path
) -> None:
    process = _running(start, cloud)
    expired = Fault("*", "ExpiredToken")
    cloud.faults.append(expired)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 77, said
    (machine,) = alive(cloud)
    said = " ".join(said.split())
    assert machine in said
    assert "it ends itself at" in said
    assert "leaks --kill" in said
    cloud.faults.clear()
    assert cloudrun("leaks", "--kill").returncode == 0
    assert nothing_is_left(cloud)
    assert cloudrun("ps").stdout == ""


def test_a_spot_machine_that_is_taken_back_leaves_its_results(
    cloud: RackedCloud, start: Start, cloudrun: Cloudrun, project: Path
) -> None:
    process = start(
        "run", "--spot", *EAST, "--", "sh", "-c", "echo 1 > results/epoch; echo ready; sleep 1000"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (instance,) = alive(cloud)
    cloud.interrupt(instance, notice_s=30)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 68, said
    assert "takes the spot machine" in said
    assert (project / "results" / "epoch").read_text() == "1\n"
    assert nothing_is_left(cloud)
    shown = json.loads(cloudrun("report", "show", "last", "--json").stdout)
    assert (shown["outcome"], shown["machine"]["spot"]) == ("partial", True)


@pytest.mark.thorough
def test_a_machine_that_dies_ends_the_run_in_words(
    cloud: RackedCloud, start: Start, project: Path
) -> None:
    process = _running(start, cloud)
    (instance,) = alive(cloud)
    cloud.rack.machine(instance).process.kill()
    began = time.monotonic()
    _, said = process.communicate(timeout=100)
    assert process.returncode == 68, said
    assert instance in said
    assert time.monotonic() - began < 60
    assert nothing_is_left(cloud)


def test_a_machine_that_never_answers_is_ended(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    cloud.rack.boot_s = 3600
    done = cloudrun("run", *EAST, "--ttl", "5s", "--", "true")
    assert done.returncode == 68, done.stderr
    assert "did not become ready" in done.stderr
    assert nothing_is_left(cloud)


def test_a_run_that_is_left_is_seen_and_brought_home(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    (project / "go.sh").write_text(
        "echo begun; while [ ! -e go ]; do sleep .1; done; echo done > results/all; exit 4\n"
    )
    left = cloudrun("run", *EAST, "--detach", "--json", "--", "sh", "go.sh")
    assert left.returncode == 0, left.stderr
    run = json.loads(left.stdout)["run"]["id"]
    (row,) = json.loads(cloudrun("ps", "--json").stdout)
    assert (row["run"]["id"], row["state"]) == (run, "not followed")
    assert row["usd"] > 0
    # It is in use, and no leak.
    assert cloudrun("leaks", "--kill").returncode == 0
    (instance,) = alive(cloud)
    machine = cloud.rack.machine(instance)
    (script,) = (machine.home / ".cloudrun" / "projects").glob("*/go.sh")
    script.with_name("go").touch()
    home = cloudrun("attach", run)
    assert home.returncode == 4, home.stderr
    assert (project / "results" / "all").read_text() == "done\n"
    assert nothing_is_left(cloud)


@pytest.mark.thorough
def test_a_run_that_is_left_is_ended_by_down(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    left = cloudrun("run", *EAST, "--detach", "--", "sleep", "1000")
    assert left.returncode == 0, left.stderr
    assert cloudrun("down", "--all").returncode == 0
    assert nothing_is_left(cloud)


def test_a_machine_that_is_kept_is_there_until_down(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    done = cloudrun("run", *EAST, "--keep", "--", "true")
    assert done.returncode == 0, done.stderr
    (instance,) = alive(cloud)
    (row,) = json.loads(cloudrun("ps", "--json").stdout)
    assert row["state"].startswith("kept until")
    assert cloudrun("leaks", "--kill").returncode == 0
    assert alive(cloud) == [instance]
    assert cloudrun("down", "last").returncode == 0
    assert nothing_is_left(cloud)


def test_nothing_is_ordered_without_a_yes(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    plan = tuple(part for part in EAST if part != "--yes")
    refused = cloudrun("run", *plan, "--", "true")
    assert (refused.returncode, "nobody to ask" in refused.stderr) == (2, True)
    dry = cloudrun("run", *plan, "--dry-run", "--json", "--", "true")
    offers = json.loads(dry.stdout)["offers"]
    assert offers[0]["zone"] == "us-east-1a"
    assert not cloud.asked("RunInstances")
    assert not cloud.asked("CreateSecurityGroup")


def test_max_cost_is_a_deadline_that_the_machine_knows(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    done = cloudrun("run", *EAST, "--max-cost", "0.05", "--", "true")
    assert done.returncode == 0, done.stderr
    (asked,) = cloud.asked("RunInstances")
    (tags,) = [s["Tags"] for s in asked.params["TagSpecifications"]
               if s["ResourceType"] == "instance"]  # fmt: skip
    deadline = {tag["Key"]: tag["Value"] for tag in tags}["cloudrun-deadline"]
    lives_s = datetime.fromisoformat(deadline).timestamp() - time.time()
    assert lives_s < 0.05 / 0.526 * 3600


def test_a_disk_or_profile_that_is_not_there_is_told(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    missing = {**os.environ, "AWS_PROFILE": "nobody"}
    done = cloudrun("offers", "--on", "aws", "--gpu", "T4", env=missing)
    assert (done.returncode, "nobody" in done.stderr) == (78, True)


def test_the_journal_knows_of_every_attempt_before_it_is_made(
    cloud: RackedCloud, cloudrun: Cloudrun, project: Path
) -> None:
    seen: list[Any] = []

    def look(request: Request) -> None:
        if request.action in ("CreateSecurityGroup", "RunInstances"):
            with Journal(settings.places().state) as journal:
                (row,) = journal.open_runs()
                seen.append([a.offer.zone for a in journal.attempts(row.id)])

    cloud.before = look
    cloud.faults.append(no_capacity(zone="us-east-1a"))
    assert cloudrun("run", *EAST, "--", "true").returncode == 0
    assert seen[0] == ["us-east-1a"]
    assert seen[-1] == ["us-east-1a", "us-east-1b"]
