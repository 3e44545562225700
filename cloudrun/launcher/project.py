"""A user's project: what its command needs on the machine."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from cloudrun.errors import BadData, WrongUsage
from cloudrun.model.need import Command

_IMPORTS_TORCH = re.compile(rb"^\s*(?:import|from)\s+torch\b", re.MULTILINE)
_PROGRAMS_OF_TORCH = ("torchrun", "accelerate", "lightning")
# A project's own files are few; what is more is data or other people's code.
_MOST_FILES, _MOST_BYTES = 500, 2**20


def command(
    argv: tuple[str, ...],
    folder: Path,
    results: str = "results",
    requirements: str | None = None,
    data: Sequence[str] = (),
    *,
    is_pushed: bool = True,
) -> Command:
    """Describe a command of a project.

    Args:
        argv: The command.
        folder: The project's folder.
        results: The folder of results, from the project's.
        requirements: The file of packages to install; None: what the project itself says.
        data: Folders that are pushed once.
        is_pushed: The folders go to another machine.

    Raises:
        WrongUsage: a folder that is pushed is a home, the results are not below it, data are no
            folder or meet something of the same name, or the file cannot be read.
        BadData: what the project itself asks for cannot be read.
    """
    folders = [folder, *(_data(folder, name) for name in data)]
    for each in folders if is_pushed else ():
        _check_folder(each)
    if (folder / _below(results)).is_file():
        raise WrongUsage(
            f"The results cannot come to '{results}': it is a file.",
            "",
            "Name another folder: --results DIR",
        )
    # On this machine nothing is installed that was not asked for.
    own = requirements_of(folder) if is_pushed and not requirements else None
    made = Command(
        argv=argv,
        folder=str(folder),
        results=_below(results),
        requirements=_read(folder / requirements) if requirements else own,
        requirements_named=requirements is not None,
        torch=_uses_torch(argv, folder),
        data=tuple(map(str, folders[1:])),
    )
    if is_pushed:
        _check_names(made)
    return made


def _check_folder(folder: Path) -> None:
    """Refuse to push a home, or what holds one: keys, and all that a person has."""
    home = Path.home().resolve()
    if home.is_relative_to(folder.resolve()):
        raise WrongUsage(
            f"This folder, {folder}, is your home or holds it.",
            "A folder is pushed to the machine as a whole, keys and all.",
            "Go into the project's own folder first: cd project. Data need a folder of their own.",
        )


def _check_names(command: Command) -> None:
    """Refuse data that would hide, or be hidden by, something else of the same name."""
    taken: dict[PurePath, str] = {PurePath(command.results): "the folder of results"}
    for folder in command.data:
        name = PurePath(command.data_name(folder))
        met = next((of for other, of in taken.items() if _meet(name, other)), None)
        own = Path(command.folder, name)
        if met is None and own != Path(folder) and own.exists():
            met = f"{own}, which the project has itself"
        if met is not None:
            raise WrongUsage(
                f"The data {folder} would be found as '{name}', and so would {met}.",
                "Data from elsewhere appear in the project's folder by their own name.",
                "Rename one of them.",
            )
        taken[name] = f"the data {folder}"


def _meet(one: PurePath, other: PurePath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def _data(folder: Path, name: str) -> Path:
    path = Path(os.path.normpath(folder / Path(name).expanduser()))
    if not path.is_dir() or path == folder:
        raise WrongUsage(f"'{name}' is no folder of data.", "", "Write a folder: --data data")
    return path


def requirements_of(folder: Path) -> str | None:
    """What a project asks for: its requirements.txt, else pyproject.toml's dependencies.

    None where it asks for nothing.

    Raises:
        BadData: one of them cannot be read.
    """
    listed, project = folder / "requirements.txt", folder / "pyproject.toml"
    try:
        if listed.is_file():
            return listed.read_text("utf-8-sig")
        if not project.is_file():
            return None
        wanted = tomllib.loads(project.read_text("utf-8")).get("project", {})
        lines = wanted.get("dependencies", [])
        if not isinstance(lines, list):
            raise TypeError("its dependencies are no list")
        return "".join(f"{line}\n" for line in lines) or None
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BadData(f"What {folder} asks for cannot be read.", f"{error}.") from error


def _below(results: str) -> str:
    path = PurePath(results)
    if path.is_absolute() or path.as_posix() == "." or ".." in path.parts:
        raise WrongUsage(
            f"The results cannot come from '{results}'.",
            "They are a folder below this one, which is pushed as a whole.",
            "Write it like: --results results",
        )
    return path.as_posix()


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise WrongUsage(
            f"The list of packages {file} cannot be read.", f"{why}.", "Look at --requirements."
        ) from error


def _uses_torch(argv: tuple[str, ...], folder: Path) -> bool:
    """Whether the command is Python's and the project's own files import torch."""
    program = PurePath(argv[0]).name
    if program in _PROGRAMS_OF_TORCH:
        return True
    if not program.startswith("python"):
        return False
    code = " ".join(argv).encode()
    return any(_IMPORTS_TORCH.search(text) for text in (code.replace(b";", b"\n"), *_code(folder)))


def _code(folder: Path) -> Iterator[bytes]:
    """The project's Python files; hidden folders and environments are not its own."""
    waiting, left = [folder], _MOST_FILES
    while waiting:
        here = waiting.pop(0)
        try:
            inside = sorted(here.iterdir())
        except OSError:
            continue
        if (here / "pyvenv.cfg").exists():
            continue
        waiting += [path for path in inside if path.is_dir() and not path.name.startswith(".")][
            :_MOST_FILES
        ]
        for path in inside:
            if path.suffix == ".py" and path.is_file() and left:
                left -= 1
                with path.open("rb") as file:
                    yield file.read(_MOST_BYTES)
        if not left:
            return
