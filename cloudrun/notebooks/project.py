"""What of a user's script and its folder goes into a notebook, and what stays at home and why.

A notebook is a text that people pass on and publish. So it takes small files
only, and nothing that looks like a secret by its name or by what is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cloudrun.errors import WrongUsage
from cloudrun.hosts.manifest import Kind, scan
from cloudrun.model.words import clean, format_bytes

MOST_FILES = 200
MOST_FILE_BYTES = 256 * 2**10
# Colab takes notebooks of up to 20 MB, and a gist gives back 1 MB in one piece.
MOST_BYTES = 2 * 2**20

_SECRET_NAMES = (
    ".env*", "*.env", ".envrc", ".netrc", "_netrc", ".npmrc", ".pypirc", ".git-credentials",
    ".htpasswd", ".pgpass", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "*.ppk",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "kaggle.json", "token.json",
    "credentials*", "client_secret*", "service_account*.json", "secrets.*", "secret.*",
)  # fmt: skip
_SECRET_FOLDERS = (".ssh", ".aws", ".azure", ".gcloud", ".kaggle", ".kube", ".gnupg", ".docker")
# The forms that issuers give their tokens so that they can be found.
_SECRETS = {
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an AWS key": rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22})",
    "a GitLab token": rb"\bglpat-[A-Za-z0-9_-]{20}",
    "a Hugging Face token": rb"\bhf_[A-Za-z0-9]{30}",
    "a Google key": rb"\bAIza[0-9A-Za-z_-]{35}",
    "a Slack token": rb"\bxox[abeoprs]-[0-9A-Za-z-]{10}",
    "an API key": rb"\bsk-[A-Za-z0-9_-]{20}",
    "a password in an address": rb"\b[a-z][a-z0-9+.-]*://[^\s/:@'\"{}<>$]+:[^\s/:@'\"{}<>$]+@",
}
_SECRET = re.compile(
    b"|".join(b"(?P<kind%d>%s)" % row for row in enumerate(_SECRETS.values()))
)  # fmt: skip


class LeftOut(NamedTuple):
    """A file that stays at home, by its path from the folder, and why."""

    path: str
    why: str


class Project(NamedTuple):
    """A script by its name, the files that go along by their paths, and those that do not.

    The script is the first of `files`.
    """

    script: str
    files: tuple[tuple[str, bytes], ...]
    left_out: tuple[LeftOut, ...]


def gather(script: Path) -> Project:
    """Gather a script and what lies in its folder.

    Raises:
        WrongUsage: it is no Python script, too large, or holds a secret.
        AccessDenied: something in the folder cannot be read.
    """
    content = _read_script(script)
    if Path.home().resolve().is_relative_to(script.parent.resolve()):
        only = "the folder is your home or holds it, so only the script goes along"
        return Project(script.name, ((script.name, content),), (LeftOut(".", only),))
    room = MOST_BYTES - len(content)
    files, left_out = pick(script.parent, ["results", script.name], room, MOST_FILES - 1)
    return Project(script.name, ((script.name, content), *files.items()), tuple(left_out))


def pick(
    folder: Path, leave_out: Sequence[str], room: int = MOST_BYTES, most_files: int = MOST_FILES
) -> tuple[dict[str, bytes], list[LeftOut]]:
    """Read the files of a folder that may go along; give those that stay, and why.

    Args:
        folder: The folder.
        leave_out: Paths from it to leave alone, without a word.
        room: The bytes that may go along.
        most_files: The files that may.

    Raises:
        AccessDenied: something in the folder cannot be read.
    """
    files: dict[str, bytes] = {}
    left_out: list[LeftOut] = []
    for path, size, why in _candidates(folder, leave_out):
        content = b"" if why else _read(folder / path)
        secret = find_secret(content)
        if not why and secret:
            why = f"{secret[0]} seems to be in it, line {secret[1]}"
        elif not why and len(files) >= most_files:
            why = f"more than {MOST_FILES} files"
        elif not why and size > room:
            why = f"more than {format_bytes(MOST_BYTES)} in all"
        if why:
            left_out.append(LeftOut(path, why))
        else:
            files[path] = content
            room -= len(content)
    return files, left_out


def _read_script(script: Path) -> bytes:
    if script.suffix != ".py":
        raise WrongUsage(
            f"'{script}' is no Python script.",
            "A notebook is made of a file that ends in .py.",
            "A notebook of your own can be uploaded as it is: cloudrun colab --open"
            if script.suffix == ".ipynb"
            else "Name one, such as train.py",
        )
    if not script.is_file():
        raise WrongUsage(f"There is no file '{script}'.", "", "Name a script, such as train.py")
    if script.stat().st_size > MOST_FILE_BYTES:
        raise WrongUsage(
            f"'{script}' is larger than {format_bytes(MOST_FILE_BYTES)}.",
            "A notebook takes small files only.",
            "Let it read its data from elsewhere.",
        )
    content = _read(script)
    if secret := find_secret(content):
        raise WrongUsage(
            f"{secret[0].capitalize()} seems to be in '{script}', line {secret[1]}.",
            "Notebooks are passed on and published, so none goes in.",
            "Read it from the environment, or in Colab from its Secrets: "
            "google.colab.userdata.get(NAME)",
        )
    return content


def _candidates(folder: Path, leave_out: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """The files of a folder, code first, then by size: path, size, what speaks against."""
    entries = [
        entry
        for entry in scan(folder.resolve(), leave_out).entries.values()
        if entry.kind is not Kind.FOLDER
    ]
    entries.sort(key=lambda entry: (not entry.path.endswith(".py"), entry.size, entry.path))
    for entry in entries:
        yield entry.path, entry.size, _why_not(entry.path, entry.size, entry.kind)


def _why_not(path: str, size: int, kind: Kind) -> str:
    pure = PurePosixPath(path)
    if kind is Kind.LINK:
        return "a link"
    if any(fnmatch(pure.name.lower(), pattern) for pattern in _SECRET_NAMES) or any(
        part in _SECRET_FOLDERS for part in pure.parts[:-1]
    ):
        return "files of that name hold secrets"
    if pure.suffix == ".ipynb":
        return "a notebook"
    if clean(path) != path:
        return "its name is no plain text"
    return f"larger than {format_bytes(MOST_FILE_BYTES)}" if size > MOST_FILE_BYTES else ""


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MOST_FILE_BYTES + 1)


def find_secret(content: bytes) -> tuple[str, int] | None:
    """What kind of secret a text holds, and in which line; None where none is seen."""
    found = _SECRET.search(content)
    if found is None:
        return None
    kind = list(_SECRETS)[int((found.lastgroup or "kind0").removeprefix("kind"))]
    return kind, content.count(b"\n", 0, found.start()) + 1
