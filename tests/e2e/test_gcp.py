from __future__ import annotations

from pathlib import Path

from tests.conftest import Cloudrun
from tests.doubles import gce

HERE = ("--on", "gcp/us-central1", "--gpu", "T4", "--yes", "--ssh-from", "10.99.0.0/16")


def test_a_command(google: gce.Cloud, cloudrun: Cloudrun, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    done = cloudrun("run", *HERE, "--", "sh", "-c", "echo hello; hostname > results/where; exit 3")
    assert (done.returncode, done.stdout) == (3, "hello\n"), done.stderr
    print(done.stderr)
    assert not google.instances
    google.reads_user_data = False
    done = cloudrun("run", *HERE, "--", "sh", "-c", "echo hello; hostname > results/where; exit 3")
    assert (done.returncode, done.stdout) == (3, "hello\n"), done.stderr
    print([(r.method, round(r.at - google.requests[0].at, 2)) for r in google.requests])
