"""What a project's command needs on a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.errors import BadData, WrongUsage
from cloudrun.launcher import project
from cloudrun.launcher.project import requirements_of


@pytest.mark.parametrize(
    ("files", "asked"),
    [
        ({}, None),
        ({"requirements.txt": "numpy\n"}, "numpy\n"),
        (
            {"pyproject.toml": '[project]\ndependencies = ["numpy>=2", "tqdm"]\n'},
            "numpy>=2\ntqdm\n",
        ),
        ({"pyproject.toml": "[tool.ruff]\n"}, None),
        ({"requirements.txt": "a\n", "pyproject.toml": '[project]\ndependencies=["b"]\n'}, "a\n"),
    ],
)
def test_what_a_project_asks_for(tmp_path: Path, files: dict[str, str], asked: str | None) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert requirements_of(tmp_path) == asked


def test_a_project_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for text in (
        "[project\n",
        "project = 1\n",
        "[project]\ndependencies = 1\n",
        '[project]\ndependencies = "torch"\n',
    ):
        (tmp_path / "pyproject.toml").write_text(text)
        with pytest.raises(BadData):
            requirements_of(tmp_path)


@pytest.mark.parametrize(
    ("argv", "file", "text", "needs"),
    [
        ("python train.py", "train.py", "import os\nimport torch\n", True),
        ("python3.12 -m train", "train/net.py", "from torch import nn\n", True),
        ("python train.py", "train.py", "import torchless\n# import torch\n", False),
        ("python train.py", ".venv/lib/torch_user.py", "import torch\n", False),
        ("python train.py", "env/lib/a.py", "import torch\n", False),
        ("./a.out", "train.py", "import torch\n", False),
        ("torchrun train.py", "train.py", "print()\n", True),
    ],
)
def test_torch_is_needed_where_the_project_imports_it(
    tmp_path: Path, argv: str, file: str, text: str, needs: bool
) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert project.command(tuple(argv.split()), tmp_path).torch == needs


def test_torch_may_be_imported_on_the_command_line(tmp_path: Path) -> None:
    argv = ("python", "-c", "import sys; import torch; print(torch.__version__)")
    assert project.command(argv, tmp_path).torch
    assert not project.command(("python", "-c", "print('import torch')"), tmp_path).torch


def test_data_are_folders_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "here" / "data").mkdir(parents=True)
    (tmp_path / "there").mkdir()
    command = project.command(("true",), tmp_path / "here", data=["data", "../there"])
    assert command.data == (str(tmp_path / "here" / "data"), str(tmp_path / "there"))


def test_a_home_is_pushed_neither_as_project_nor_as_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, work = tmp_path / "me", tmp_path / "project"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for folder, data in ((home, []), (tmp_path, []), (work, ["~"]), (work, [".."])):
        with pytest.raises(WrongUsage, match="is your home or holds it"):
            project.command(("true",), folder, data=data)
    # Nothing leaves this machine.
    assert project.command(("true",), home, is_pushed=False).folder == str(home)


@pytest.mark.parametrize(
    ("data", "met"),
    [
        (["../one/data", "../two/data"], "the data .*/one/data"),
        (["../one/package"], ".*package, which the project has itself"),
        (["../one/results"], "the folder of results"),
        (["results/old"], "the folder of results"),
        (["package", "package/inner"], "the data .*/package"),
    ],
)
def test_data_of_one_name_are_told_apart(tmp_path: Path, data: list[str], met: str) -> None:
    for name in ("one/data", "one/package", "one/results", "two/data"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("package/inner", "results/old"):
        (tmp_path / "here" / name).mkdir(parents=True)
    with pytest.raises(WrongUsage, match=f"and so would {met}"):
        project.command(("true",), tmp_path / "here", data=data)
