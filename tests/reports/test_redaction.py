from __future__ import annotations

import getpass
import socket
from pathlib import Path
from typing import Any

import pytest

from cloudrun.reports import redaction
from cloudrun.reports.redaction import redact
from cloudrun.reports.schema import parse
from tests.doubles.reports import measurement, report


@pytest.fixture(autouse=True)
def me(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "mmuster")
    monkeypatch.setattr(socket, "gethostname", lambda: "wolke7.example.org")


def redacted(text: str) -> str:
    return redact(report(notes=[text])).notes[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see /home/max/secret plan.txt", "see [path] plan.txt"),
        ("-I/home/max/include", "-I[path]"),
        ("PYTHONPATH=lib:/mnt/data/x", "PYTHONPATH=lib:[path]"),
        ("'/tmp/x/y.py': no such file", "'[path]': no such file"),
        ("~/x and ~max/y", "[path] and [path]"),
        (r"C:\Users\Max Muster\x.py is gone", "[path] is gone"),
        (r"\\server\share\x", "[path]"),
        ("libcuda.so is in /usr/lib/x86_64-linux-gnu", None),
        (r"C:\Windows\System32\nvcuda.dll", None),
        ("ssh://max@box:22 is silent", "ssh://[host] is silent"),
        ("mail max@example.org", "mail [user]@[host]"),
        ("s3://our-bucket/reports", "s3://[path]"),
        ("file:///home/max/x", "file://[path]"),
        ("https://pytorch.org/get-started/locally/", None),
        ("https://max:secret@pytorch.org/", "https://[path]"),
        ("http://box:8080/x", "http://[host]"),
        ("http://192.168.1.7/x", "http://[host]"),
        ("from 192.168.1.7 to fe80::1ff:fe23:4567:890a", "from [address] to [address]"),
        ("on 127.0.0.1 and ::1 and 0.0.0.0", None),
        ("mmuster at wolke7, at WOLKE7.example.org", "[user] at [host], at [host]"),
        ("at 08:57:51 with driver 580.126.09 and torch 2.13.0+cu130", None),
        ("5.2 TFLOP/s, tokens/s, and/or, 1/2, 50 % of 3 x 8192", None),
        ("root and ubuntu, gpu and torch", None),
    ],
)
def test_what_is_left_of_a_text(text: str, expected: str | None) -> None:
    assert redacted(text) == (text if expected is None else expected)


def test_every_text_of_a_report_is_looked_through() -> None:
    told = "/home/max/x on mmuster's wolke7"
    check = {"name": "disk", "status": "fail", "detail": told, "remedy": told}
    found = redact(
        report(
            run={"id": "a", "workload": "all", "profile": "quick", "target": "ssh://max@box,local"},
            checks=[check],
            measurements=[measurement(note=told)],
            notes=[told, "box said no to max"],
        )
    )
    assert found.run.target == "ssh://[host],local"
    text = found.to_json().decode()
    assert not any(word in text for word in ("max", "muster", "wolke", "box", "/home"))


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--data", "/home/max/my data/x"], ["--data", "[path]"]),
        (["--results=/home/max/my data"], ["--results=[path]"]),
        (["--store", "s3://ours/x"], ["--store", "s3://[path]"]),
        (["--on", "ssh://max@box", "--", "python", "train.py", "--for", "box"],
         ["--on", "ssh://[host]", "--", "python", "train.py", "--for", "[host]"]),
        (["--on", "lab,local"], ["--on", "[host],local"]),
        (["--on", "aws/us-east-1", "--ttl", "45m"], None),
    ],
)  # fmt: skip
def test_what_is_left_of_a_command_line(argv: list[str], expected: Any, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('[hosts]\nlab = "ssh://me@lab.example.org"\n')
    provenance = {"cloudrun": "0.1.0", "workload_sha256": "0" * 64, "argv": argv}
    found = redact(report(provenance=provenance)).provenance.argv
    assert list(found) == (argv if expected is None else expected)


def test_what_is_left_is_a_report() -> None:
    long = report(
        run={"id": "a", "workload": "x", "profile": "x", "target": "a@b " * 50},
        notes=["a@b " * 1000],
    )
    assert parse(redact(long).to_json(), "x").notes[0].startswith("[user]@[host]")


@pytest.mark.parametrize(
    ("settings", "wished"),
    [
        ("", True),
        ("[report]\nnames = true\n", False),
        ("[report]\nnames = false\n", True),
        ("[", True),
    ],
)
def test_names_stay_only_where_the_settings_say_so(settings: str, wished: bool, home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text(settings)
    assert redaction.wished() == wished
