"""Detached runs whose machines store what they made by themselves, as their user would see it."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from cloudrun.reports.store import open_store
from tests.conftest import Cloudrun
from tests.doubles import buckets
from tests.doubles.aws import RackedCloud
from tests.doubles.buckets import Buckets
from tests.doubles.machines import Machine
from tests.e2e.conftest import Start, wait
from tests.e2e.test_aws import EAST, alive, nothing_is_left

Done = subprocess.CompletedProcess[str]
WORK = "echo begun; echo oops >&2; echo all > results/made; seq 100000; exit 4"


@pytest.fixture
def name() -> str:
    return f"bucket-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def store(name: str) -> str:
    return f"s3://{name}/of/a/team"


@pytest.fixture
def s3(bridge: str | None, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buckets]:
    """A bucket that the machines reach too."""
    address = f"10.99.{bridge.removeprefix('crbr')}.1" if bridge else "127.0.0.1"
    with buckets.s3(name, address=address) as double:
        for variable, value in buckets.s3_environment(double).items():
            # Of AWS, only its storage is here.
            monkeypatch.setenv(variable.replace("ENDPOINT_URL", "ENDPOINT_URL_S3"), value)
        yield double


@pytest.fixture
def box(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The machine as a target: its key is known, and ours opens it."""
    folder = tmp_path / "user" / ".ssh"
    folder.mkdir(parents=True)
    (folder / "known_hosts").write_text(f"{machine.known_name} {machine.host_key}\n")
    (folder / "config").write_text(
        f"Host box\n  HostName {machine.address}\n  Port {machine.port}\n"
        f"  User {machine.user}\n  IdentityFile {machine.key}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return "ssh://box"


def is_stored(s3: Buckets, run: str) -> bool:
    return any(re.match(f"PUT .*/of/a/team/runs/{run}/end.txt", asked) for asked in s3.asked)


def seen_at_home(attached: Done, project: Path, store: str) -> None:
    """What the command said, its exit status, its results and its report are here."""
    assert attached.returncode == 4, attached.stderr
    assert attached.stdout == "begun\n" + "".join(f"{n}\n" for n in range(1, 100001))
    assert "oops\n" in attached.stderr
    assert (project / "results" / "made").read_text() == "all\n"
    kept = open_store(store)
    (entry,) = kept.entries()
    assert "exit status 4" in kept.read(entry).checks[0].detail


@pytest.mark.needs_namespaces("its machine is powered off")
def test_what_a_machine_has_stored_comes_home_when_it_is_gone(
    cloudrun: Cloudrun, box: str, machine: Machine, s3: Buckets, store: str, project: Path
) -> None:
    left = cloudrun("run", "--on", box, "--detach", "--store", store, "--", "sh", "-c", WORK)
    assert left.returncode == 0, left.stderr
    run = left.stdout.split()[0]
    wait(lambda: is_stored(s3, run), "what the job left is stored")
    # The URLs, which are secrets, are gone from the machine.
    job = machine.home / ".cloudrun" / "runs" / run / "job"
    assert not any(b"Signature=" in path.read_bytes() for path in job.iterdir() if path.is_file())
    machine.power_off()
    seen_at_home(cloudrun("attach", run), project, store)
    assert cloudrun("ps").stderr == "Nothing is running.\n"


def test_what_cannot_be_stored_waits_on_the_machine(
    cloudrun: Cloudrun, box: str, s3: Buckets, store: str, project: Path
) -> None:
    s3.fault = lambda request: (403, "AccessDenied") if "/runs/" in request.path else None
    left = cloudrun("run", "--on", box, "--detach", "--store", store, "--", "sh", "-c", WORK)
    assert left.returncode == 0, left.stderr
    wait(lambda: any("/runs/" in asked for asked in s3.asked), "it is tried")
    seen_at_home(cloudrun("attach", "last"), project, store)


@pytest.mark.thorough
def test_a_rented_machine_ends_itself_when_all_is_stored(
    cloud: RackedCloud, cloudrun: Cloudrun, s3: Buckets, store: str, project: Path
) -> None:
    left = cloudrun("run", *EAST, "--detach", "--store", store, "--json", "--", "sh", "-c", WORK)
    assert left.returncode == 0, left.stderr
    run = json.loads(left.stdout)["run"]["id"]
    wait(lambda: not alive(cloud), "the machine has ended itself")
    assert is_stored(s3, run)
    seen_at_home(cloudrun("attach", run), project, store)
    assert nothing_is_left(cloud)
    assert cloudrun("ps").stderr == "Nothing is running.\n"


def test_what_could_not_be_stored_goes_along_the_next_time(
    cloudrun: Cloudrun, s3: Buckets, store: str, project: Path
) -> None:
    s3.fault = lambda request: (403, "AccessDenied") if "/runs/" in request.path else None
    work = "mkdir -p results; echo all > results/made; echo said"
    done = cloudrun("run", "--store", store, "--store-results", "--", "sh", "-c", work)
    assert done.returncode == 77
    assert "The report waits" in done.stderr
    assert list(open_store(store).entries()) == []
    s3.fault = lambda _request: None
    # What comes later into the folder is another run's.
    (project / "results" / "made").write_text("later\n")
    assert "is stored: cloudrun report show" in cloudrun("ps").stderr
    (entry,) = open_store(store).entries()
    place = open_store(store).place
    assert place.get(f"runs/{entry.id}/out.txt") == b"said\n"
    with tarfile.open(fileobj=BytesIO(place.get(f"runs/{entry.id}/results.tar.gz"))) as archive:
        made = archive.extractfile("./made")
        assert made is not None
        assert made.read() == b"all\n"


@pytest.mark.thorough
def test_who_follows_the_job_to_its_end_gets_all_though_the_machine_ends_itself(
    cloud: RackedCloud, cloudrun: Cloudrun, start: Start, s3: Buckets, store: str, project: Path
) -> None:
    work = f"while [ ! -e go ]; do sleep .1; done; {WORK}"
    left = cloudrun("run", *EAST, "--detach", "--store", store, "--json", "--", "sh", "-c", work)
    assert left.returncode == 0, left.stderr
    run = json.loads(left.stdout)["run"]["id"]
    following = start("attach", run)
    (instance,) = alive(cloud)
    projects = (cloud.rack.machine(instance).home / ".cloudrun" / "projects").iterdir()
    (next(folder for folder in projects if folder.is_dir()) / "go").touch()
    said, told = following.communicate(timeout=120)
    seen_at_home(Done([], following.returncode, said, told), project, store)
    assert nothing_is_left(cloud)
