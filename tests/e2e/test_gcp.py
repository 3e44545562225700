"""The command line against a simulated Google Cloud with real machines, as a user would use it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cloudrun import settings
from tests.conftest import Cloudrun
from tests.doubles import aws
from tests.doubles.gce import Cloud, Request
from tests.doubles.gce_faults import Fault, no_capacity, no_quota
from tests.e2e.conftest import Popen, Start, wait

HERE = ("--on", "gcp/us-central1", "--gpu", "T4", "--yes", "--ssh-from", "10.99.0.0/16")


def left(cloud: Cloud) -> list[str]:
    rules = [name for name in cloud.named("firewalls") if name.startswith("cloudrun")]
    return [*cloud.instances, *cloud.named("disks"), *rules]


def _running(start: Start, *options: str) -> Popen:
    """A run whose command has said its first word."""
    process = start("run", *options, *HERE, "--", "sh", "-c", "echo ready; sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


@pytest.mark.xdist_group("torch")
def test_a_launch_tells_the_truth_and_leaves_nothing(
    google: Cloud, cloudrun: Cloudrun, project: Path
) -> None:
    google.provision_s = google.end_s = 0.5
    done = cloudrun("launch", *HERE, "--workload", "smoke", "--json")
    report = json.loads(done.stdout)
    # The machine of these tests has no GPU: that is what the report must say.
    assert (done.returncode, report["outcome"]) == (1, "failed"), done.stderr
    failed = {check["name"] for check in report["checks"] if check["status"] == "fail"}
    assert failed == {"driver", "device"}
    assert report["machine"] == {
        "provider": "gcp",
        "region": "us-central1",
        "zone": "us-central1-a",
        "instance_type": "n1-standard-4+1xnvidia-tesla-t4",
        "spot": False,
        "price_usd_per_hour": 0.54,
        "price_as_of": "2026-08-03",
    }
    assert left(google) == []
    assert report["cost"]["usd"] == pytest.approx(_lived_s(google) / 3600 * 0.54, rel=0.1)
    (let_in,) = [r.body for r in google.asked("firewalls.insert") if "allowed" in r.body]
    assert let_in["sourceRanges"] == ["10.99.0.0/16"]


def _lived_s(cloud: Cloud) -> float:
    times = {request.method: request.at for request in cloud.requests}
    return times["instances.delete"] + cloud.end_s - times["instances.insert"]


@pytest.mark.parametrize("has_cloud_init", [True, False])
def test_a_command_runs_there_and_its_results_come_home(
    google: Cloud, cloudrun: Cloudrun, project: Path, has_cloud_init: bool
) -> None:
    # Without cloud-init the machine makes its own host key, and tells Google of it.
    google.reads_user_data = has_cloud_init
    (project / "train.sh").write_text("echo hello; hostname > results/where; exit 3\n")
    done = cloudrun("run", *HERE, "--", "sh", "train.sh")
    assert (done.returncode, done.stdout) == (3, "hello\n"), done.stderr
    assert (project / "results" / "where").read_text().startswith("crv")
    assert left(google) == []


def test_a_machine_with_another_host_key_is_refused(
    google: Cloud, cloudrun: Cloudrun, project: Path
) -> None:
    google.reads_user_data = False
    google.faults.append(Fault("instances.getGuestAttributes", "internalError"))
    done = cloudrun("run", *HERE, "--", "true")
    assert done.returncode == 76, done.stderr
    assert left(google) == []


@pytest.mark.thorough
def test_the_next_zone_then_the_next_region_is_tried(
    google: Cloud, cloudrun: Cloudrun, project: Path
) -> None:
    google.faults += [
        no_capacity(zone="us-central1-a", zones_available="us-central1-f"),
        no_quota(zone="us-central1-f"),
    ]
    done = cloudrun("run", "--on", "gcp/us-central1,gcp/us-east1", *HERE[2:], "--", "true")
    assert done.returncode == 0, done.stderr
    zones = [request.zone for request in google.asked("instances.insert")]
    assert zones == ["us-central1-a", "us-central1-f", "us-east1-b"]
    said = " ".join(done.stderr.split())
    assert "Google has no machine of this type here now." in said
    assert "Your quota at Google does not allow this machine here." in said
    assert left(google) == []


def test_of_two_clouds_the_cheapest_is_tried_first_and_then_the_other(
    cloud: aws.RackedCloud, google: Cloud, cloudrun: Cloudrun, project: Path
) -> None:
    from cloudrun.rehearsal.faults import Fault as AwsFault
    from cloudrun.rehearsal.faults import no_capacity as aws_is_full

    cloud.faults.append(aws_is_full(zone="us-east-1a"))
    cloud.faults.append(AwsFault("RunInstances", "VcpuLimitExceeded"))
    google.faults.append(no_capacity(zone="us-central1-a"))
    asked: list[tuple[str, str]] = []

    def aws_sees(request: Any) -> None:
        if request.action == "RunInstances":
            asked.append(("aws", request.zone))

    def google_sees(request: Request) -> None:
        if request.method == "instances.insert":
            asked.append(("gcp", request.zone))

    cloud.before, google.before = aws_sees, google_sees
    done = cloudrun("run", "--on", "gcp/us-central1,aws/us-east-1", *HERE[2:], "--", "true")
    assert done.returncode == 0, done.stderr
    # $0.526 there, $0.54 here.
    assert asked == [
        ("aws", "us-east-1a"), ("aws", "us-east-1b"),
        ("gcp", "us-central1-a"), ("gcp", "us-central1-b"),
    ]  # fmt: skip
    assert left(google) == []
    assert not [i for i in cloud.instances.values() if i.state != "terminated"]


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault("instances.insert", "forbidden"), 77),
        (Fault("instances.insert", "billingNotEnabled"), 77),
        (no_quota("GPUS_ALL_REGIONS"), 69),
    ],
)
def test_what_no_other_zone_can_mend_ends_at_once(
    google: Cloud, cloudrun: Cloudrun, project: Path, fault: Fault, status: int
) -> None:
    google.faults.append(fault)
    done = cloudrun("run", *HERE, "--", "true")
    assert done.returncode == status, done.stderr
    assert len(google.asked("instances.insert")) == 1
    assert left(google) == []


KILLS = [
    ("images.getFromFamily", "before"),
    *((method, when) for method in ("firewalls.insert", "instances.insert", "instances.delete")
      for when in ("before", "after")),
    ("zoneOperations.wait", "before"),
    ("firewalls.delete", "after"),
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize(("method", "when"), KILLS)
def test_a_cloudrun_that_is_killed_at_any_call_leaves_nothing_that_leaks_does_not_end(
    google: Cloud, cloudrun: Cloudrun, start: Start, project: Path, method: str, when: str
) -> None:
    google.provision_s = 0.3
    killed = threading.Event()

    def kill(request: Request, *_answer: object) -> None:
        if request.method == method and not killed.is_set():
            killed.set()
            process.kill()
            process.wait()

    setattr(google, when, kill)
    process = start("run", *HERE, "--", "true")
    wait(lambda: process.poll() is not None, "it goes on")
    assert killed.is_set(), process.communicate()
    google.before = google.after = None
    done = cloudrun("leaks", "--kill")
    assert done.returncode == 0, done.stderr
    assert left(google) == []
    assert cloudrun("ps").stdout == ""


@pytest.mark.thorough
def test_without_a_journal_leaks_finds_it_all_the_same(
    google: Cloud, cloudrun: Cloudrun, start: Start, project: Path
) -> None:
    process = _running(start)
    process.kill()
    process.wait()
    settings.places().state.rename(settings.places().state.with_name("lost"))
    rows = json.loads(cloudrun("leaks", "--json").stdout)
    assert {row["kind"] for row in rows} == {"machine", "disk", "firewall"}
    assert {row["leak"] for row in rows} == {"left over"}
    done = cloudrun("leaks", "--kill")
    assert done.returncode == 0, done.stderr
    assert left(google) == []
    assert "Never set up here: aws" in cloudrun("leaks").stderr


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_a_run_stops_the_machine(
    google: Cloud, start: Start, project: Path, number: signal.Signals
) -> None:
    process = _running(start)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert left(google) == []


@pytest.mark.thorough
def test_ctrl_c_in_the_middle_of_an_order_waits_for_its_answer(
    google: Cloud, start: Start, project: Path
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hold(request: Request) -> None:
        if request.method == "instances.insert" and not asked.is_set():
            asked.set()
            go_on.wait(30)

    google.before = hold
    process = start("run", *HERE, "--", "true")
    assert asked.wait(30)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    go_on.set()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert left(google) == []


def test_google_deletes_the_machine_at_its_deadline_with_nobody_there(
    google: Cloud, start: Start, project: Path
) -> None:
    # Half a minute is the least that Google takes; here it is over in eight seconds.
    google.pace = 4
    process = _running(start, "--ttl", "20s")
    process.kill()
    assert google.instances
    wait(lambda: not google.instances, "the machine lives on")
    assert google.named("disks") == []
    assert not google.asked("instances.delete")


def test_where_google_forgets_it_the_machine_powers_itself_off(
    google: Cloud, start: Start, project: Path
) -> None:
    google.pace = 0
    # Its own timer comes a minute after Google's: as if that were nearly over.
    google.ahead_s = 80
    process = _running(start, "--ttl", "30s")
    process.kill()
    (instance,) = google.instances.values()
    wait(lambda: instance["status"] == "TERMINATED", "the machine lives on")


@pytest.mark.thorough
def test_the_deadline_stops_the_job_and_brings_home_what_there_is(
    google: Cloud, cloudrun: Cloudrun, project: Path
) -> None:
    script = "echo half > results/half; sleep 1000"
    done = cloudrun("run", *HERE, "--ttl", "8s", "--", "sh", "-c", script)
    assert done.returncode == 75, done.stderr
    assert (project / "results" / "half").read_text() == "half\n"
    assert left(google) == []


@pytest.mark.thorough
def test_credentials_that_expire_halfway_are_told_and_nothing_is_forgotten(
    google: Cloud, cloudrun: Cloudrun, start: Start, project: Path
) -> None:
    process = _running(start)
    google.faults.append(Fault("*", "authError"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 77, said
    (machine,) = google.instances
    said = " ".join(said.split())
    assert machine in said
    assert "it ends itself at" in said
    assert "leaks --kill" in said
    google.faults.clear()
    assert cloudrun("leaks", "--kill").returncode == 0
    assert left(google) == []
    assert cloudrun("ps").stdout == ""


@pytest.mark.thorough
def test_a_spot_machine_that_is_taken_back_leaves_its_results(
    google: Cloud, start: Start, cloudrun: Cloudrun, project: Path
) -> None:
    process = start(
        "run", "--spot", *HERE, "--", "sh", "-c", "echo 1 > results/epoch; echo ready; sleep 1000"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (machine,) = google.instances
    google.preempt(machine, notice_s=30)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 68, said
    assert "takes the spot machine" in said
    assert (project / "results" / "epoch").read_text() == "1\n"
    assert left(google) == []
    shown = json.loads(cloudrun("report", "show", "last", "--json").stdout)
    assert (shown["outcome"], shown["machine"]["spot"]) == ("partial", True)


@pytest.mark.thorough
def test_a_machine_that_dies_ends_the_run_in_words(
    google: Cloud, start: Start, project: Path
) -> None:
    process = _running(start)
    (machine,) = google.instances
    assert google.rack
    google.rack.machine(machine).process.kill()
    _, said = process.communicate(timeout=100)
    assert process.returncode == 68, said
    assert machine in said
    assert left(google) == []


@pytest.mark.thorough
def test_a_run_that_is_left_is_seen_and_brought_home(
    google: Cloud, cloudrun: Cloudrun, project: Path
) -> None:
    (project / "go.sh").write_text(
        "echo begun; while [ ! -e go ]; do sleep .1; done; echo done > results/all; exit 4\n"
    )
    done = cloudrun("run", *HERE, "--detach", "--json", "--", "sh", "go.sh")
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)["run"]["id"]
    # It is in use, and no leak.
    assert cloudrun("leaks", "--kill").returncode == 0
    (name,) = google.instances
    assert google.rack
    machine = google.rack.machine(name)
    (script,) = (machine.home / ".cloudrun" / "projects").glob("*/go.sh")
    script.with_name("go").touch()
    home = cloudrun("attach", run)
    assert home.returncode == 4, home.stderr
    assert (project / "results" / "all").read_text() == "done\n"
    assert left(google) == []


@pytest.mark.thorough
def test_a_machine_that_is_kept_is_there_until_down(
    google: Cloud, cloudrun: Cloudrun, project: Path
) -> None:
    # The zone before it, in another region, must not take its firewall away.
    google.faults.append(no_capacity(zone="us-central1-a"))
    places = "gcp/us-central1/us-central1-a,gcp/us-east1"
    done = cloudrun("run", "--on", places, *HERE[2:], "--keep", "--", "true")
    assert done.returncode == 0, done.stderr
    (name,) = google.instances
    assert len(google.asked("instances.insert")) == 2
    assert [each for each in left(google) if "let-in" in each]
    assert cloudrun("leaks", "--kill").returncode == 0
    assert list(google.instances) == [name]
    assert cloudrun("down", "last").returncode == 0
    assert left(google) == []


def test_a_plan_is_fast_and_creates_nothing(
    google: Cloud, cloudrun: Cloudrun, project: Path
) -> None:
    plan = tuple(part for part in HERE if part != "--yes")
    refused = cloudrun("run", *plan, "--", "true")
    assert (refused.returncode, "nobody to ask" in refused.stderr) == (2, True)
    dry = cloudrun("launch", *plan, "--dry-run", "--json")
    assert json.loads(dry.stdout)["offers"][0]["zone"] == "us-central1-a"
    assert {request.method.partition(".")[2] for request in google.requests} == {"aggregatedList"}
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cloudrun", "launch", *plan, "--dry-run"],
        capture_output=True, encoding="utf-8",
    )  # fmt: skip
    for heavy in ("google.cloud", "googleapiclient", "google.auth", "boto3"):
        assert f" {heavy}\n" not in loaded.stderr
