"""The official programs of the notebook services: where they are, which version, what they say."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cloudrun import settings
from cloudrun.errors import HostUnreachable, NotInstalled
from cloudrun.model.words import clean

# They load for seconds, and then ask a service that may be slow.
LIMIT_S = 90.0
_MOST_BYTES = 2**20
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
# It asks for more than it says that it needs.
_LACKS = re.compile(r"ModuleNotFoundError: No module named '(\w+)'")
_QUIETLY = {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Kind:
    """A client: its name as a program, how it tells its version, the oldest that will do.

    `words` must be there beside the version, so that another program of the same name is
    told apart. `install` is how to get it.
    """

    service: str
    name: str
    ask_version: tuple[str, ...]
    words: str
    least: tuple[int, int, int]
    install: str


@dataclass(frozen=True)
class Answer:
    """What a client said, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What went wrong, in its own words: the first line of its errors, else of its output.

        Of a traceback it is the last line.
        """
        lines = (self.err.strip() or self.out.strip()).splitlines() or ["nothing"]
        line = lines[-1] if lines[0].startswith("Traceback") else lines[0]
        return clean(line.strip())[:300]


def find(kind: Kind) -> str:
    """The path of a client that will do.

    Raises:
        NotInstalled: there is none, or it is too old.
    """
    path = path_of(kind.name)
    if path is None:
        raise NotInstalled(
            f"The client of {kind.service} is not installed.",
            f"There is no program '{kind.name}'.",
            kind.install,
        )
    said = _version_of(kind, path)
    found = _VERSION.search(said)
    if lacks := _LACKS.search(said):
        raise NotInstalled(
            f"The client of {kind.service} cannot start.",
            f"It needs {lacks[1]}.",
            f"Install it beside it: pip install {lacks[1]}",
        )
    if kind.words not in said or found is None:
        raise NotInstalled(
            f"The program {path} is not the official client of {kind.service}.",
            "Another one has the same name.",
            kind.install,
        )
    if tuple(map(int, found.groups())) < kind.least:
        raise NotInstalled(
            f"The client of {kind.service} is too old.",
            f"It is {found[0]}; cloudrun needs {'.'.join(map(str, kind.least))} or newer.",
            kind.install,
        )
    return path


def path_of(name: str) -> str | None:
    """The program of this name: on the path, or of the environment that we run in."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def _version_of(kind: Kind, path: str) -> str:
    """What the client says of its version; kept, since it takes seconds to say it."""
    status = os.stat(path)
    stamp = [status.st_mtime_ns, status.st_size]
    kept = settings.places().cache / "clients.json"
    known: dict[str, list[object]] = {}
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = dict(json.loads(kept.read_text("utf-8")))
    if known.get(path, [])[:2] == stamp:
        return str(known[path][2])
    answer = ask(path, kind.ask_version)
    said = f"{answer.out}\n{answer.err}"[-500:]
    if answer.status == 0:
        # Without it the next one asks again.
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            part = kept.with_name(f"{kept.name}.{os.getpid()}")
            part.write_text(json.dumps({**known, path: [*stamp, said]}), "utf-8")
            part.replace(kept)
    return said


def ask(
    path: str,
    arguments: Sequence[str],
    limit_s: float = LIMIT_S,
    environment: Mapping[str, str] | None = None,
) -> Answer:
    """Run a client to its end; it can ask nobody.

    Raises:
        HostUnreachable: it did not end in time, or cannot be started.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell
                [path, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **_QUIETLY, **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise HostUnreachable(f"{path} cannot be started.", f"{error.strerror}.") from error
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired as error:
            raise HostUnreachable(
                f"The client {Path(path).name} did not end within {limit_s:.0f} s.",
                "",
                "Look at the connection to the internet.",
            ) from error
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        return Answer(status, _text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(_MOST_BYTES).decode("utf-8", "replace")
