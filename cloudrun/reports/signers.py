"""Whose keys are trusted: OpenSSH's file of allowed signers (ssh-keygen(1), ALLOWED SIGNERS)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from cloudrun.errors import BadSettings
from cloudrun.reports.signing import NAMESPACE

_MOST_BYTES = 2**20
_FIELD = re.compile(r'(?:[^\s"]|"(?:\\.|[^"\\])*")+')
_OPTION = re.compile(r'([A-Za-z-]+)(?:="((?:\\.|[^"\\])*)")?(?:,|$)')
_MOMENT = re.compile(r"(\d{8})(?:(\d{4})(\d{2})?)?(Z?)", re.ASCII)


class Signer(NamedTuple):
    """A line of the file: who, which public key in SSH's format, for what and when."""

    who: str
    key: bytes
    namespaces: str = "*"
    after: datetime | None = None
    before: datetime | None = None


def read(path: Path) -> list[Signer]:
    """Read the file. Certificates' authorities are left aside: no certificate is checked.

    Raises:
        BadSettings: it cannot be read, or a line makes no sense.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise BadSettings(f"{path} is too large to be a list of signers.", "", "Name another.")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "It is no text"
        raise BadSettings(f"The signers in {path} cannot be read.", f"{why}.") from error
    return list(_signers(lines, path))


def _signers(lines: Iterable[str], path: Path) -> Iterator[Signer]:
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            signer = _signer(_FIELD.findall(line))
        except (ValueError, IndexError) as error:
            raise BadSettings(
                f"Line {number} of {path} is no allowed signer.",
                f"{str(error).rstrip('.')}." if isinstance(error, ValueError) else "",
                "Write it like: alice@example.org ssh-ed25519 AAAA...",
            ) from error
        if signer is not None:
            yield signer


def _signer(fields: list[str]) -> Signer | None:
    """Read a line's fields: who, options or none, the key's type and the key itself."""
    who, *rest = fields
    options = {} if _is_key(rest) else _options(rest.pop(0))
    if not _is_key(rest):
        raise ValueError("There is no key in it")
    if "cert-authority" in options:
        return None
    return Signer(
        who.strip('"'),
        base64.b64decode(rest[1], validate=True),
        options.get("namespaces", "*"),
        _moment(options.get("valid-after")),
        _moment(options.get("valid-before")),
    )


def _is_key(fields: list[str]) -> bool:
    """Whether a key's type comes first, and a key with this type in it second."""
    if len(fields) < 2:
        return False
    try:
        key = base64.b64decode(fields[1], validate=True)
    except ValueError:
        return False
    name = fields[0].encode()
    return key.startswith(len(name).to_bytes(4, "big") + name)


def _options(text: str) -> dict[str, str]:
    found, at = {}, 0
    while at < len(text):
        option = _OPTION.match(text, at)
        known = ("cert-authority", "namespaces", "valid-after", "valid-before")
        if option is None or option[1].lower() not in known:
            # What restricts a key must not be passed over.
            raise ValueError(f"'{text[at : at + 40]}' is no option of a signer")
        found[option[1].lower()] = option[2] or ""
        at = option.end()
    return found


def _moment(text: str | None) -> datetime | None:
    """Read a moment: a day, or with the time; in UTC with a Z behind it, else local."""
    if text is None:
        return None
    told = _MOMENT.fullmatch(text)
    if told is None:
        raise ValueError(f"'{text[:40]}' is no moment")
    day, minute, second, utc = told.groups()
    moment = datetime.strptime(f"{day}{minute or '0000'}{second or '00'}", "%Y%m%d%H%M%S")
    return moment.replace(tzinfo=UTC) if utc else moment.astimezone()


def who(signers: Iterable[Signer], key: bytes, at: datetime) -> str | None:
    """Who a key belongs to at that moment, if it may sign reports; None: nobody known."""
    for signer in signers:
        early = signer.after is not None and at < signer.after
        late = signer.before is not None and at > signer.before
        if signer.key == key and not (early or late) and _matches(signer.namespaces):
            return signer.who
    return None


def _matches(patterns: str) -> bool:
    """Whether a list of patterns has the namespace of reports; `!` takes it out again."""
    found = False
    for pattern in patterns.split(","):
        if fnmatchcase(NAMESPACE, pattern.strip().removeprefix("!")):
            if pattern.strip().startswith("!"):
                return False
            found = True
    return found
