"""What is installed is what the tree has: setup.cfg lists packages and data by hand."""

from __future__ import annotations

import configparser
import fnmatch
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def packages_in_the_tree() -> dict[str, Path]:
    folders = [path.parent for path in (ROOT / "cloudrun").rglob("__init__.py")]
    found = {".".join(folder.relative_to(ROOT).parts): folder for folder in folders}
    return {**found, "cloudrun.templates": ROOT / "templates"}


def test_every_package_is_listed(config: configparser.ConfigParser) -> None:
    listed = config["options"]["packages"].split()
    assert listed == sorted(packages_in_the_tree())


def test_every_data_file_is_covered(config: configparser.ConfigParser) -> None:
    patterns = {name: globs.split() for name, globs in config["options.package_data"].items()}
    for name, folder in packages_in_the_tree().items():
        for path in folder.iterdir():
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert any(fnmatch.fnmatch(path.name, glob) for glob in patterns.get(name, [])), (
                    path
                )
    for name, globs in patterns.items():
        for glob in globs:
            assert list(packages_in_the_tree()[name].glob(glob)), f"{name}: {glob} matches nothing"


def test_every_extra_is_in_all(config: configparser.ConfigParser) -> None:
    extras = config["options.extras_require"]
    users = set(extras) - {"all", "test", "dev"}
    assert {f"%({name})s" for name in users} == set(extras["all"].split())


def test_every_dependency_has_a_tested_version(config: configparser.ConfigParser) -> None:
    pinned = {
        line.partition("==")[0]
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    lists = [config["options"]["install_requires"], *config["options.extras_require"].values()]
    needed = {
        line.partition(">")[0].strip()
        for text in lists
        for line in text.splitlines()
        if line.strip() and not line.startswith("%")
    }
    assert needed <= pinned


def test_wheel_and_sdist_hold_the_same_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    # The wheel is built out of the sdist, so that a file missing there is missed here.
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(tmp_path / "dist"), str(source)],
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    expected = {
        f"{name.replace('.', '/')}/{path.name}"
        for name, folder in packages_in_the_tree().items()
        for path in folder.iterdir()
        if path.is_file() and path.suffix != ".pyc"
    }
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == expected
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "README.zh-CN.md", "constraints.txt", "LICENSE"} <= names
    assert {"tests/conftest.py", "tests/doubles/paid.py", "benchmarks/startup.py"} <= names


def test_the_wheel_works_where_the_tree_is_not(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(target), str(source)],
        check=True,
        capture_output=True,
    )
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r});"
        "import cloudrun; assert cloudrun.__file__.startswith(sys.path[0]), cloudrun.__file__;"
        "from cloudrun.cli.app import run;"
        "sys.exit(run(['config', 'set', 'launch.profile', 'full']) or run(['gpus', 'T4']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "Turing" in done.stdout


def test_the_librarys_face_has_what_it_promises() -> None:
    import cloudrun

    for name in cloudrun.__all__:
        assert getattr(cloudrun, name) is not None
    with pytest.raises(AttributeError):
        _ = cloudrun.nothing


def test_the_providers_that_come_along_are_entry_points_too() -> None:
    from cloudrun.providers import base

    for name in base.OURS:
        (point,) = entry_points(group=base.GROUP, name=name)
        assert point.load() is base.load(name)
