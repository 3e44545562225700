"""Who vouches for a report: the signatures beside it, each in a file of its own.

    081251.204Z_local_cpu_passed_k3f9x2m7w0ab.json
    081251.204Z_local_cpu_passed_k3f9x2m7w0ab.json.4f9c21d07be35a68.sig

The part before `.sig` tells the key, so any number of people can sign one report and
nothing is overwritten. `ssh-keygen -Y sign` writes the name without it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from cloudrun.errors import BadData, BadSettings
from cloudrun.reports import signers, signing
from cloudrun.reports.signers import Signer
from cloudrun.reports.signing import Key

_NAME = re.compile(r"(?P<report>.+\.json)(\.[0-9a-f]{16})?\.sig")
# More people do not sign one report; more files are somebody's joke.
_MOST = 100


class Voucher(NamedTuple):
    """One signature: its file, the key's fingerprint, whose it is, what is wrong with it.

    `who` is None when the key belongs to nobody who is known.
    """

    file: Path
    key: str
    who: str | None
    problem: BadData | None


def add(report: Path, key: Key) -> Path:
    """Sign the report in a file; returns the file of the signature, which may be there already.

    Raises:
        BadData: the report cannot be read, or something else has the signature's name.
        BadSettings: the signature cannot be written; nothing of it is left.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError
    from obstore.store import LocalStore

    data = _bytes(report)
    made = signing.sign(data, key)
    name = f"{report.name}.{hashlib.sha256(key.asbytes()).hexdigest()[:16]}.sig"
    try:
        LocalStore(report.parent).put(name, made, mode="create")
    except AlreadyExistsError:
        file = report.with_name(name)
        signing.check(data, signing.read(_head(file), str(file)), str(file))
    except (BaseError, OSError) as error:
        raise BadSettings(
            f"The signature cannot be written beside {report}.",
            "The folder takes no file, or the disk is full.",
            "Copy the report to a folder of yours, and sign it there.",
        ) from error
    return report.with_name(name)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadData(f"{path} cannot be read.", f"{error.strerror}.") from error


def beside(folder: Path, *, below: bool = False) -> dict[Path, list[Path]]:
    """The files of signatures in a folder, by the file of their report; `below`: in all of it."""
    found: dict[Path, list[Path]] = {}
    for base, folders, names in os.walk(folder):
        for name in sorted(names):
            if match := _NAME.fullmatch(name):
                found.setdefault(Path(base, match["report"]), []).append(Path(base, name))
        if not below:
            folders.clear()
    return found


def check(report: Path, files: Sequence[Path], known: Sequence[Signer]) -> Iterator[Voucher]:
    """Check the signatures of a report's file.

    Raises:
        BadData: the report cannot be read.
    """
    data = _bytes(report)
    for file in files[:_MOST]:
        key = ""
        try:
            signature = signing.read(_head(file), file.name)
            key = signing.fingerprint(signature.key)
            signing.check(data, signature, file.name)
        except BadData as error:
            yield Voucher(file, key, None, error)
        else:
            yield Voucher(file, key, signers.who(known, signature.key, datetime.now(UTC)), None)


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(signing.MOST_BYTES + 1)
    except OSError as error:
        raise BadData(f"The signature {file.name} cannot be read.", f"{error.strerror}.") from error
