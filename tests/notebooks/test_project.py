"""What of a script's folder goes into a notebook, and what stays at home."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.errors import WrongUsage
from cloudrun.notebooks import project
from cloudrun.notebooks.project import gather

# Put together here, so that nobody takes them for real ones.
TOKENS = {
    "a GitHub token": "ghp" + "_" + "a" * 36,
    "an AWS key": "AKIA" + "A" * 16,
    "a private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "a Hugging Face token": "hf" + "_" + "a" * 34,
    "a GitLab token": "glpat" + "-" + "a" * 20,
    "a Google key": "AIza" + "a" * 35,
    "a Slack token": "xoxb" + "-" + "1" * 12,
    "an API key": "sk" + "-" + "a" * 40,
    "a password in an address": "postgres://me:word" + "@db/x",
}


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / "train.py"


def gathered(script: Path) -> tuple[list[str], dict[str, str]]:
    found = gather(script)
    return [path for path, _ in found.files], {left.path: left.why for left in found.left_out}


def test_small_files_go_along_the_script_first(tmp_path: Path) -> None:
    script = write(tmp_path, {"a.csv": "1,2\n", "train.py": "1\n", "lib/b.py": b"\0\xff"})
    assert gather(script) == (
        "train.py",
        (("train.py", b"1\n"), ("lib/b.py", b"\0\xff"), ("a.csv", b"1,2\n")),
        (),
    )


def test_gitignore_is_honoured_but_not_for_the_script(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        {".gitignore": "data/\n*.py\n!lib.py\n", "data/x.csv": "1", "train.py": "1", "lib.py": "2"},
    )
    assert set(gathered(script)[0]) == {"train.py", "lib.py", ".gitignore"}


def test_environments_results_and_caches_stay(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        {
            "train.py": "1",
            ".git/config": "x",
            "venv/pyvenv.cfg": "x",
            "venv/lib.py": "x",
            "__pycache__/x.pyc": "x",
            "results/x.txt": "x",
        },
    )
    assert gathered(script) == (["train.py"], {})


@pytest.mark.parametrize(
    "name",
    [".env", ".env.local", "prod.env", "x.pem", "id_rsa", "id_ed25519.pub", "kaggle.json", ".netrc",
     "credentials.json", "secrets.toml", ".aws/config", "deep/.ssh/config", "SERVICE_ACCOUNT.json",
     "deep/.env"],
)  # fmt: skip
def test_files_whose_names_promise_secrets_stay(tmp_path: Path, name: str) -> None:
    script = write(tmp_path, {"train.py": "1", name: "KEY=1\n"})
    assert gathered(script) == (["train.py"], {name: "files of that name hold secrets"})


@pytest.mark.parametrize("kind", TOKENS)
def test_files_with_a_token_in_them_stay(tmp_path: Path, kind: str) -> None:
    script = write(tmp_path, {"train.py": "1", "x.py": f"# first\nKEY = '{TOKENS[kind]}'\n"})
    assert gathered(script) == (["train.py"], {"x.py": f"{kind} seems to be in it, line 2"})


@pytest.mark.parametrize("kind", TOKENS)
def test_a_script_with_a_token_is_refused(tmp_path: Path, kind: str) -> None:
    script = write(tmp_path, {"train.py": f"KEY = '{TOKENS[kind]}'\n"})
    with pytest.raises(WrongUsage) as error:
        gather(script)
    assert "line 1" in error.value.what
    assert TOKENS[kind] not in str(error.value)


def test_ordinary_code_is_no_secret(tmp_path: Path) -> None:
    code = (
        "url = f'https://{user}:{password}@host/'\n"
        "risk-free = 'task-0123456789abcdefghij'\n"
        "see = 'https://example.org/a:b@c'\n"
        "hf_model = 'hf_hub_download'\n"
    )
    assert gathered(write(tmp_path, {"train.py": code})) == (["train.py"], {})


def test_what_is_too_large_or_too_many_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "MOST_FILE_BYTES", 100)
    monkeypatch.setattr(project, "MOST_BYTES", 250)
    monkeypatch.setattr(project, "MOST_FILES", 4)
    script = write(
        tmp_path,
        {"train.py": "x" * 100, "large.bin": "x" * 101, "a": "x" * 80, "b": "x" * 80,
         **{f"small{number}": "" for number in range(3)}},
    )  # fmt: skip
    files, left = gathered(script)
    assert files == ["train.py", "small0", "small1", "small2"]
    assert left["large.bin"] == "larger than 100 B"
    assert left["a"] == left["b"] == "more than 4 files"
    monkeypatch.setattr(project, "MOST_FILES", 99)
    assert gathered(script)[1]["b"] == "more than 250 B in all"


def test_links_and_notebooks_stay(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("private")
    script = write(tmp_path / "p", {"train.py": "1", "old.ipynb": "{}"})
    (script.parent / "link.txt").symlink_to(outside)
    assert gathered(script)[1] == {"link.txt": "a link", "old.ipynb": "a notebook"}


def test_of_a_home_only_the_script_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = write(tmp_path, {"train.py": "1", "diary.txt": "private"})
    monkeypatch.setenv("HOME", str(tmp_path))
    files, left = gathered(script)
    assert files == ["train.py"]
    assert "your home" in left["."]


@pytest.mark.parametrize("name", ["x.ipynb", "x.sh", "missing.py", "folder.py"])
def test_what_is_no_script(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.py").mkdir()
    write(tmp_path, {"x.ipynb": "{}", "x.sh": ""})
    with pytest.raises(WrongUsage):
        gather(tmp_path / name)


def test_a_script_that_is_too_large(tmp_path: Path) -> None:
    script = write(tmp_path, {"train.py": "#" * (project.MOST_FILE_BYTES + 1)})
    with pytest.raises(WrongUsage) as error:
        gather(script)
    assert "256 KiB" in error.value.what
