"""Who vouches for a report: the signatures beside it, each an object of its own.

    081251.204Z_local_cpu_passed_k3f9x2m7w0ab.json
    081251.204Z_local_cpu_passed_k3f9x2m7w0ab.json.4f9c21d07be35a68.sig

The part before `.sig` tells the key, so any number of people can sign one report and
nothing is overwritten. `ssh-keygen -Y sign` writes the name without it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from cloudrun.errors import BadData
from cloudrun.reports import signers, signing
from cloudrun.reports.bucket import Bucket
from cloudrun.reports.folder import Folder
from cloudrun.reports.signers import Signer
from cloudrun.reports.signing import Key

Place = Folder | Bucket

_NAME = re.compile(r"(?P<report>.+\.json)(\.[0-9a-f]{16})?\.sig")
# More people do not sign one report; more objects are somebody's joke.
_MOST = 100


class Voucher(NamedTuple):
    """One signature: its path, the key's fingerprint, whose it is, what is wrong with it.

    `who` is None when the key belongs to nobody who is known.
    """

    path: str
    key: str
    who: str | None
    problem: BadData | None


def add(place: Place, path: str, data: bytes, key: Key) -> str:
    """Sign a report; returns the path of the signature, which may be there already.

    Args:
        place: Where the report is.
        path: Its path there.
        data: Its bytes.
        key: Whose signature it is to be.

    Raises:
        BadData: something else has the signature's name.
        CloudrunError: it cannot be written; nothing of it is left.
    """
    signature = f"{path}.{hashlib.sha256(key.asbytes()).hexdigest()[:16]}.sig"
    try:
        place.put(signature, signing.sign(data, key))
    except FileExistsError:
        signing.check(data, signing.read(place.get(signature), signature), signature)
    return signature


def beside(place: Place, folder: str = "", *, below: bool = False) -> dict[str, list[str]]:
    """The paths of the signatures in a folder, by the path of their report.

    Args:
        place: Where to look.
        folder: Empty, or ends in a slash.
        below: In all of it.

    Raises:
        CloudrunError: the place cannot be read.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(place.names(folder, below=below)):
        if match := _NAME.fullmatch(path):
            found.setdefault(match["report"], []).append(path)
    return found


def who_by_path(place: Place, known: Sequence[Signer]) -> Callable[[str], tuple[str, ...]]:
    """Gives who of those that are known vouches for the report of a path.

    Only reports with signatures are read.

    Raises:
        CloudrunError: the place cannot be read.
    """
    listed = beside(place, below=True) if known else {}

    def who(path: str) -> tuple[str, ...]:
        signatures = listed.get(path)
        if not signatures:
            return ()
        try:
            vouchers = list(check(place, place.get(path), signatures, known))
        except BadData:
            return ()
        return tuple(dict.fromkeys(each.who for each in vouchers if each.who))

    return who


def check(
    place: Place, data: bytes, signatures: Sequence[str], known: Sequence[Signer]
) -> Iterator[Voucher]:
    """Check the signatures of a report, `data` being its bytes.

    Raises:
        CloudrunError: the place as a whole cannot be read.
    """
    for path in signatures[:_MOST]:
        key = ""
        try:
            signature = signing.read(place.get(path), path)
            key = signing.fingerprint(signature.key)
            signing.check(data, signature, path)
        except BadData as error:
            yield Voucher(path, key, None, error)
        else:
            yield Voucher(path, key, signers.who(known, signature.key, datetime.now(UTC)), None)
