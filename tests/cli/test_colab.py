"""`cloudrun colab`, as a process: the notebook, the links, the gist, the browser."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.conftest import Cloudrun
from tests.doubles import github as doubles
from tests.doubles.github import ID, NO_SCOPE, TOKEN, GitHub

COLAB = "https://colab.research.google.com"


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    with doubles.github() as state:
        monkeypatch.setenv("GITHUB_API_URL", state.url)
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        # What a developer's proxy is told is no business of the double's.
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        yield state


def test_without_options_a_notebook_and_where_to_upload_it(cloudrun: Cloudrun) -> None:
    done = cloudrun("colab")
    assert done.returncode == 0
    assert done.stdout == f"{COLAB}/#upload=true\n"
    said = " ".join(done.stderr.split())
    assert "Written: cloudrun.ipynb" in said
    assert "Runtime, Run all" in said
    assert "cloudrun collect results.json" in said
    assert str(Path("cloudrun.ipynb").absolute()) in said.replace(" ", "")
    nbformat.validate(nbformat.read("cloudrun.ipynb", as_version=4))


def test_options_reach_the_notebook(cloudrun: Cloudrun) -> None:
    done = cloudrun(
        "colab", "-o", "x.ipynb", "--gpu", "l4", "--workload", "bench", "--profile", "full"
    )
    assert done.returncode == 0
    notebook = json.loads(Path("x.ipynb").read_text("utf-8"))
    assert notebook["metadata"]["colab"]["gpuType"] == "L4"
    assert notebook["metadata"]["colab"]["name"] == "x.ipynb"
    code = "\n".join("".join(cell["source"]) for cell in notebook["cells"])
    assert "PROFILE = 'full'" in code
    assert "run('bench', PROFILE, parts)" in code
    assert "run('smoke'" not in code


def test_a_script_and_its_folder(cloudrun: Cloudrun) -> None:
    Path("train.py").write_text("print(1)\n")
    Path(".env").write_text("KEY=1\n")
    done = cloudrun("colab", "train.py", "--json")
    made = json.loads(done.stdout)
    assert made["notebook"] == "train.ipynb"
    assert made["left_out"] == [{"path": ".env", "why": "files of that name hold secrets"}]
    assert "Stays at home: .env (files of that name hold secrets)." in done.stderr
    assert "KEY=1" not in Path("train.ipynb").read_text()
    # Built again, it does not hold itself.
    assert cloudrun("colab", "train.py").returncode == 0


def test_a_notebook_that_was_run_is_not_overwritten(cloudrun: Cloudrun) -> None:
    assert cloudrun("colab").returncode == 0
    assert cloudrun("colab").returncode == 0
    notebook = nbformat.read("cloudrun.ipynb", as_version=4)
    next(cell for cell in notebook.cells if cell.cell_type == "code").execution_count = 1
    nbformat.write(notebook, "cloudrun.ipynb")
    before = Path("cloudrun.ipynb").read_bytes()
    for arguments in (("colab",), ("colab", "-o", "cloudrun.ipynb")):
        done = cloudrun(*arguments)
        assert done.returncode == 2
        assert "may hold results" in " ".join(done.stderr.split())
    assert Path("cloudrun.ipynb").read_bytes() == before
    Path("notes.txt").write_text("mine")
    assert cloudrun("colab", "-o", "notes.txt").returncode == 2
    assert Path("notes.txt").read_text() == "mine"


def test_links_to_what_is_elsewhere(cloudrun: Cloudrun) -> None:
    done = cloudrun("colab", "--github", "me/course/nb/cloudrun.ipynb@v1")
    link = f"{COLAB}/github/me/course/blob/v1/nb/cloudrun.ipynb"
    badge = f"{COLAB}/assets/colab-badge.svg"
    assert done.stdout.splitlines() == [
        link,
        f"[![Open In Colab]({badge})]({link})",
        f'<a href="{link}"><img src="{badge}" alt="Open In Colab"/></a>',
    ]
    assert not list(Path().iterdir())
    made = json.loads(cloudrun("colab", "--url", "https://example.org/x.ipynb", "--json").stdout)
    assert made["link"] == f"{COLAB}/#fileId=https%3A%2F%2Fexample.org%2Fx.ipynb"
    assert made["notebook"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--github me", "OWNER/REPO"),
        ("--url http://example.org/x.ipynb", "https://"),
        ("--gist --github me/x", "Choose"),
        ("--github me/x -o x.ipynb", "elsewhere"),
        ("x.py --url https://example.org/x.ipynb", "elsewhere"),
        ("x.py --profile full", "Leave out"),
        ("--gpu T9", "Did you mean 'T4'"),
        ("--workload smok", "Did you mean 'smoke'"),
        ("missing.py", "no file"),
    ],
)
def test_mistakes(cloudrun: Cloudrun, arguments: str, says: str) -> None:
    done = cloudrun("colab", *arguments.split())
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert not list(Path().iterdir())


def test_the_browser_is_opened_once_with_the_link(
    cloudrun: Cloudrun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = tmp_path / "browser"
    stub.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/opened\n')
    stub.chmod(0o755)
    monkeypatch.setenv("BROWSER", f"{stub} %s")
    assert cloudrun("colab", "--open").returncode == 0
    assert (tmp_path / "opened").read_text() == f"{COLAB}/#upload=true\n"


def test_no_browser_is_said(cloudrun: Cloudrun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "/nonexistent/browser")
    monkeypatch.setenv("PATH", "/nonexistent")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    done = cloudrun("colab", "--open")
    assert done.returncode == 0
    assert "by hand" in done.stderr


def test_a_gist_is_secret_and_holds_the_notebook(cloudrun: Cloudrun, github: GitHub) -> None:
    done = cloudrun("colab", "--gist", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["link"] == f"{COLAB}/gist/octocat/{ID}/cloudrun.ipynb"
    assert made["gist"]["url"] == f"https://gist.github.com/octocat/{ID}"
    (gist,) = github.gists
    assert gist["public"] is False
    content = gist["files"]["cloudrun.ipynb"]["content"]
    nbformat.validate(nbformat.reads(content, as_version=4))
    assert TOKEN not in content + done.stdout + done.stderr
    # Nothing was to be written here.
    assert not list(Path().iterdir())


def test_without_a_terminal_and_a_yes_nothing_is_uploaded(
    cloudrun: Cloudrun, github: GitHub
) -> None:
    done = cloudrun("colab", "--gist")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert not github.requests


@pytest.mark.parametrize(("answer", "uploads"), [("y", 1), ("n", 0), ("", 0)])
def test_at_a_terminal_it_asks_once(github: GitHub, answer: str, uploads: int) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    done = subprocess.run(
        [sys.executable, "-m", "cloudrun", "colab", "--gist"],
        stdin=theirs,
        capture_output=True,
        encoding="utf-8",
    )
    os.close(theirs)
    os.close(ours)
    assert done.stderr.count("Upload it?") == 1
    assert len(github.gists) == uploads
    assert done.returncode == (0 if uploads else 130)


def test_the_token_of_gh(
    cloudrun: Cloudrun, github: GitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GITHUB_TOKEN")
    stub = tmp_path / "bin" / "gh"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\n[ "$*" = "auth token" ] && echo {TOKEN}\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{stub.parent}:/usr/bin:/bin")
    assert cloudrun("colab", "--gist", "--yes").returncode == 0
    assert len(github.gists) == 1


@pytest.mark.parametrize(
    ("token", "status", "says"),
    [
        ("wrong", 77, "Bad credentials"),
        (NO_SCOPE, 77, "gh auth refresh --scopes gist"),
        ("two words", 77, "no spaces"),
        ("", 77, "gh auth login"),
    ],
)
def test_tokens_that_will_not_do(
    cloudrun: Cloudrun,
    github: GitHub,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    status: int,
    says: str,
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", token)
    monkeypatch.setenv("PATH", "/nonexistent")
    done = cloudrun("colab", "--gist", "--yes")
    assert done.returncode == status
    assert says in " ".join(done.stderr.split())
    assert not github.gists


@pytest.mark.parametrize(
    ("instead", "status", "says"),
    [
        ((500, {}, b"<html>"), 69, "status 500"),
        ((422, {}, b'{"message": "Validation Failed"}'), 69, "Validation Failed"),
        ((403, {"Retry-After": "60"}, b"{}"), 69, "no more for the moment"),
        ((201, {}, b"[]"), 69, "makes no sense"),
        ((201, {}, b'{"owner": {"login": "../x"}, "id": "1", "html_url": ""}'), 69, "names no"),
        ((302, {"Location": "/elsewhere"}, b""), 69, "status 302"),
    ],
)
def test_answers_that_are_none(
    cloudrun: Cloudrun,
    github: GitHub,
    instead: tuple[int, dict[str, str], bytes],
    status: int,
    says: str,
) -> None:
    github.instead = instead
    done = cloudrun("colab", "--gist", "--yes")
    assert done.returncode == status
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    # The token goes to no other place.
    assert [path for path, _ in github.requests] == ["/gists"]


def test_no_github_at_all(cloudrun: Cloudrun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    monkeypatch.setenv("GITHUB_API_URL", "http://127.0.0.1:9")
    assert cloudrun("colab", "--gist", "--yes").returncode == 68
    monkeypatch.setenv("GITHUB_API_URL", "http://github.example.org")
    done = cloudrun("colab", "--gist", "--yes")
    assert done.returncode == 78
    assert "unprotected" in done.stderr
