"""What goes to a notebook service: code, within limits, and no secret."""

from __future__ import annotations

import base64
import io
import os
import tarfile
from pathlib import Path

import pytest

from cloudrun.errors import WrongUsage
from cloudrun.launcher import project
from cloudrun.model.need import Need
from cloudrun.notebooks import payload
from cloudrun.notebooks.payload import Payload


def build(*argv: str) -> Payload:
    command = project.command(argv or ("python", "train.py"), Path.cwd())
    return payload.build(Need(command=command), "cuda", "/content", 60)


def names(made: Payload) -> list[str]:
    """The files that are in the text."""
    values: dict[str, str] = {"__name__": "not main"}
    exec(compile(made.script, "script", "exec"), values)  # noqa: S102 - ours
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(values["ARCHIVE"]))) as tar:
        return sorted(tar.getnames())


def test_secrets_results_and_what_is_ignored_stay_at_home() -> None:
    Path("train.py").write_text("print(1)\n")
    Path("requirements.txt").write_text("einops\n")
    Path(".env").write_text("TOKEN=x")
    Path("key.txt").write_text("-----BEGIN RSA PRIVATE KEY-----")
    Path(".cloudrunignore").write_text("*.bin\n")
    Path("data.bin").write_bytes(b"1")
    Path("results").mkdir()
    Path("results/old").write_text("1")
    made = build()
    assert [name for name in names(made) if "cloudrunignore" not in name] == [
        "cloudrun-requirements.txt",
        "project/requirements.txt",
        "project/train.py",
    ]
    assert {left.path for left in made.left_out} == {".env", "key.txt"}


def test_more_than_a_service_takes_is_refused() -> None:
    for number in range(8):
        Path(f"{number}.py").write_bytes(os.urandom(200_000))
    with pytest.raises(WrongUsage, match="code, not data"):
        build()


def test_the_workloads_go_as_they_are() -> None:
    made = payload.build(Need(), "cuda", "/content", 60)
    assert "cloudrun/workloads/work.py" in names(made)
    assert len(made.script) < 200_000
