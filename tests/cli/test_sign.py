"""`cloudrun report sign` and `report verify`, as processes, with keys of ssh-keygen's."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from cloudrun.reports.signing import NAMESPACE
from cloudrun.reports.store import Store, open_store
from tests.conftest import Cloudrun
from tests.doubles.reports import report


@pytest.fixture
def store(home: Path) -> Store:
    store = open_store(str(home / "data" / "reports"))
    store.add(report(id="firstone", created="2026-11-24T07:00:00.000Z"))
    store.add(report(id="secondone", created="2026-11-24T09:00:00.000Z"))
    return store


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make(tmp_path / "key")


def make(path: Path, passphrase: str = "") -> Path:
    arguments = ("-q", "-t", "ed25519", "-C", "me", "-N", passphrase, "-f", str(path))
    subprocess.run(["ssh-keygen", *arguments], check=True)
    return path


def trust(home: Path, key: Path, who: str = "alice@example.org") -> None:
    (home / "allowed_signers").write_text(f"{who} {key.with_name(key.name + '.pub').read_text()}")


def test_what_is_signed_is_verified_and_listed_as_before(
    cloudrun: Cloudrun, store: Store, key: Path, home: Path
) -> None:
    before = cloudrun("report", "list").stdout
    done = cloudrun("report", "sign", "last", "firstone", "--key", str(key))
    assert done.returncode == 0
    made = [Path(line) for line in done.stdout.splitlines()]
    assert all(path.is_file() for path in made)
    assert cloudrun("report", "list").stdout == before
    done = cloudrun("report", "verify")
    assert done.returncode == 65
    assert "unknown key" in done.stdout
    trust(home, key)
    done = cloudrun("report", "verify", "last", "firstone")
    assert done.returncode == 0
    assert done.stdout.count("good       alice@example.org") == 2
    report_file = made[0].with_name(made[0].name.partition(".json")[0] + ".json")
    theirs = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", str(home / "allowed_signers"), "-n", NAMESPACE,
         "-s", str(made[0]), "-I", "alice@example.org"], input=report_file.read_bytes(),
    )  # fmt: skip
    assert theirs.returncode == 0


def test_what_was_changed_or_is_not_signed_is_bad_data(
    cloudrun: Cloudrun, store: Store, key: Path, home: Path
) -> None:
    trust(home, key)
    (signed,) = json.loads(cloudrun("report", "sign", "--key", str(key), "--json").stdout)
    assert signed["report"] == "secondone"
    done = cloudrun("report", "verify", "firstone", "--json")
    assert done.returncode == 65
    assert json.loads(done.stdout)[0]["status"] == "not signed"
    file = next(store.place.location.rglob("*secondone.json"))
    file.write_bytes(file.read_bytes().replace(b"Test CPU", b"Best CPU"))
    done = cloudrun("report", "verify", "--json")
    assert done.returncode == 65
    (row,) = json.loads(done.stdout)
    assert (row["status"], row["signed_by"]) == ("false", None)
    assert "does not fit the report" in row["problem"]
    said = cloudrun("report", "compare").stderr
    assert "does not fit the report" in " ".join(said.split())


def test_one_false_signature_is_enough_to_say_no(
    cloudrun: Cloudrun, store: Store, key: Path, home: Path
) -> None:
    trust(home, key)
    made = Path(cloudrun("report", "sign", "--key", str(key)).stdout.strip())
    assert cloudrun("report", "verify").returncode == 0
    made.with_name(made.name.partition(".json")[0] + ".json.sig").write_text("?")
    done = cloudrun("report", "verify")
    assert done.returncode == 65
    assert "cannot be read" in " ".join(done.stderr.split())


def test_a_comparison_says_who_vouches(
    cloudrun: Cloudrun, store: Store, key: Path, home: Path
) -> None:
    cloudrun("report", "sign", "firstone", "--key", str(key))
    assert "signed by" not in cloudrun("report", "compare").stdout
    trust(home, key)
    assert "1 of 2 signed by alice@example.org" in cloudrun("report", "compare").stdout
    rows = json.loads(cloudrun("report", "compare", "firstone", "secondone", "--json").stdout)
    assert {row["group"]: row["vouched_by"] for row in rows} == {
        "firstone": {"alice@example.org": 1},
        "secondone": {},
    }


def test_a_page_says_who_vouches(cloudrun: Cloudrun, store: Store, key: Path, home: Path) -> None:
    cloudrun("report", "sign", "firstone", "--key", str(key))
    for trusted in (False, True):
        if trusted:
            trust(home, key)
        assert cloudrun("report", "html").returncode == 0
        text = Path("cloudrun-reports.html").read_text("utf-8")
        assert ("alice@example.org" in text) == trusted
    # What was changed since is nobody's word.
    file = next(store.place.location.rglob("*firstone.json"))
    file.write_bytes(file.read_bytes() + b" ")
    cloudrun("report", "html")
    assert "alice@example.org" not in Path("cloudrun-reports.html").read_text("utf-8")


def test_a_file_has_its_signature_beside_it_and_not_further_down(
    cloudrun: Cloudrun, store: Store, key: Path, home: Path
) -> None:
    trust(home, key)
    file = next(store.place.location.rglob("*firstone.json"))
    Path("below").mkdir()
    for copy in (Path("mine.json"), Path("below/mine.json")):
        copy.write_bytes(file.read_bytes().replace(b'"firstone"', b'"mine"'))
    cloudrun("report", "sign", "below/mine.json", "--key", str(key))
    assert "not signed" in cloudrun("report", "verify", "mine.json").stdout
    cloudrun("report", "sign", "mine.json", "--key", str(key))
    assert cloudrun("report", "verify", "mine.json").returncode == 0
    for arguments in (("mine.json", "secondone"), ("--baseline", "mine.json")):
        rows = json.loads(cloudrun("report", "compare", *arguments, "--json").stdout)
        signed = [row for row in rows if row["vouched_by"]]
        assert [row["reports"] for row in signed] == [["mine"]]


def test_a_locked_key_is_taken_from_the_agent(
    cloudrun: Cloudrun, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    locked = make(tmp_path / "locked", "secret")
    done = cloudrun("report", "sign", "--key", str(locked))
    assert done.returncode == 77
    assert "ssh-add" in done.stderr
    # The path of a socket is short.
    sock = Path(os.path.relpath(tmp_path / "agent"))
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.PIPE)
    try:
        assert agent.stdout is not None
        agent.stdout.readline()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        subprocess.run(
            ["ssh-keygen", "-q", "-p", "-P", "secret", "-N", "", "-f", locked], check=True
        )
        subprocess.run(["ssh-add", "-q", str(locked)], check=True)
        locked.unlink()
        done = cloudrun("report", "sign", "--key", f"{locked}.pub")
        assert done.returncode == 0
        assert done.stdout.endswith(".sig\n")
    finally:
        agent.kill()
        agent.communicate()


def test_without_a_key_or_a_report_it_says_so(
    cloudrun: Cloudrun, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    done = cloudrun("report", "sign")
    assert done.returncode == 77
    assert "ssh-keygen -t ed25519" in done.stderr
    (tmp_path / "none").write_text("this is no key")
    done = cloudrun("report", "sign", "--key", str(tmp_path / "none"))
    assert done.returncode == 77
    assert "no key that can be read" in done.stderr
    Path("broken.json").write_text("{")
    assert cloudrun("report", "sign", "broken.json").returncode == 65
    (tmp_path / "signers").write_text("nonsense\n")
    done = cloudrun("report", "verify", "--allowed-signers", str(tmp_path / "signers"))
    assert done.returncode == 78
    assert "Line 1 of" in done.stderr


def test_raw_is_the_file_as_it_is(cloudrun: Cloudrun, store: Store) -> None:
    file = next(store.place.location.rglob("*secondone.json"))
    assert cloudrun("report", "show", "--raw").stdout.encode() == file.read_bytes()
    evil = report(id="evil", notes=["\x1b[2J\u202e"]).to_json()
    Path("evil.json").write_bytes(evil)
    shown = cloudrun("report", "show", "evil.json", "--raw").stdout
    assert "\u202e" not in shown
    assert json.loads(shown)["id"] == "evil"
