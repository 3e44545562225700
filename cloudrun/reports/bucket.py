"""A bucket of a cloud that keeps the objects of a store: `s3://`, `gs://`, `az://`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cloudrun.errors import BadData, BadSettings, CloudrunError, WrongUsage
from cloudrun.reports.abreast import abreast, heard
from cloudrun.reports.bucket_faults import explained, is_of_one_object
from cloudrun.reports.names import MONTH, YEAR, Entry, entry_of
from cloudrun.reports.schema import check_size

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureStore, GCSStore, S3Store

T = TypeVar("T")
A = TypeVar("A")

PATIENCE_S = 15.0
SCHEMES = ("s3", "gs", "az")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_PART = re.compile(r"[A-Za-z0-9._=@+-]{1,200}")
# Written when a store is first used: who may write it may write reports.
_MARK = "about-this-store.txt"
_ABOUT = (
    b"Reports of cloudrun, one JSON file each: YEAR/MONTH/DAY/TIME_PROVIDER_GPU_OUTCOME_ID.json\n"
)
_FIRST_YEAR = 2024
_LONGEST_SIGNED_S = 7 * 24 * 3600
_PIECE = 2**20
_AT_ONCE = 16
_PAGE, _MOST_LISTED = 1000, 200_000


class Missing(BadData):
    """There is no such object."""


@dataclass(frozen=True)
class Bucket:
    """The objects of `bucket` whose names begin with `prefix`, which is empty or ends in a slash.

    `scheme` is one of `SCHEMES`. Endpoint and credentials are those that the cloud's
    own tools would use (`bucket_access`). Where no answer comes, it is asked again for
    `patience_s` seconds.
    """

    scheme: str
    bucket: str
    prefix: str
    patience_s: float

    @property
    def url(self) -> str:
        """How the store is named."""
        return f"{self.scheme}://{self.bucket}/{self.prefix}".rstrip("/")

    def check_writable(self) -> None:
        """Make sure, before work starts, that a report can be written here.

        Raises:
            CloudrunError: it cannot.
        """
        try:
            self.put(_MARK, _ABOUT)
        except FileExistsError:
            return

    def put(self, path: str, data: bytes) -> None:
        """Write an object, whole or not at all.

        It is tried again where no answer came, so that one of this name may be our own.

        Raises:
            FileExistsError: there is one of this name.
            CloudrunError: it cannot be written, or nobody knows whether it was.
        """
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            objects = self._objects
            heard(lambda: objects.put(path, data, mode="create", use_multipart=False))
        except AlreadyExistsError as error:
            raise FileExistsError(path) from error
        except (BaseError, OSError, ValueError) as error:
            raise self._explained(error, "be written to") from error

    def put_file(self, path: str, file: Path) -> None:
        """Write a file of any size to an object, whole or not at all; an earlier one goes.

        Raises:
            CloudrunError: it cannot be written.
        """
        from obstore.exceptions import BaseError

        try:
            heard(lambda: self._objects.put(path, file, mode="overwrite"))
        except (BaseError, OSError, ValueError) as error:
            raise self._explained(error, "be written to") from error

    def get(self, path: str) -> bytes:
        """Read an object.

        Raises:
            BadData: this one cannot be read; others may.
            CloudrunError: none can.
        """
        from obstore.exceptions import BaseError

        if path.endswith("/"):
            raise _unlistable(path)
        try:
            return heard(lambda: self._whole(path))
        except (BaseError, OSError, ValueError) as error:
            raise self._unreadable(error, path) from error

    def sign(self, path: str, seconds: float) -> str:
        """A URL by which anybody can write this object, for so long; it is a secret.

        Raises:
            CloudrunError: these credentials cannot sign.
        """
        import obstore
        from obstore.exceptions import BaseError

        try:
            lasts = timedelta(seconds=min(seconds, _LONGEST_SIGNED_S))
            return heard(lambda: obstore.sign(self._objects, "PUT", path, lasts))
        except (BaseError, OSError, ValueError) as error:
            raise self._explained(error, "be written to by another") from error

    def stream(self, path: str) -> Iterator[bytes]:
        """An object of any size, in pieces.

        Raises:
            BadData: it is not there, or cannot be read.
            CloudrunError: the bucket gives no answer.
        """
        from obstore.exceptions import BaseError

        try:
            pieces = heard(lambda: iter(self._objects.get(path).stream(_PIECE)))
            while (piece := heard(lambda: next(pieces, None))) is not None:
                yield bytes(piece)
        except (BaseError, OSError, ValueError) as error:
            raise self._unreadable(error, path) from error

    def each(self, act: Callable[[A], T], arguments: Sequence[A]) -> list[T]:
        """Do the same to each, many at a time: an answer is waited for longer than worked on."""
        return abreast(act, arguments, _AT_ONCE)

    def level(self, prefix: str) -> tuple[list[str], list[Entry]]:
        """The folders and the objects just below `prefix`, which is empty or ends in a slash.

        Only folders of years and months: a bucket may hold millions of other things.

        Raises:
            CloudrunError: the store cannot be read.
        """
        import obstore
        from obstore.exceptions import BaseError, InvalidPathError

        try:
            found = heard(lambda: obstore.list_with_delimiter(self._objects, prefix or None))
        except InvalidPathError:
            return _usual_folders(prefix), [Entry(prefix or "/", 0)]
        except (BaseError, OSError, ValueError) as error:
            raise self._explained(error, "be read") from error
        folders = [f"{name}/" for name in found["common_prefixes"]]
        ours = [name for name in folders if (MONTH if prefix else YEAR).fullmatch(name)]
        return ours, list(_entries(found["objects"]))

    def below(self, prefix: str) -> Iterator[Entry]:
        """All objects below `prefix`, which is a month's or a day's.

        Raises:
            CloudrunError: the store cannot be read.
        """
        from obstore.exceptions import BaseError, InvalidPathError

        try:
            yield from heard(lambda: self._listed(prefix))
        except InvalidPathError:
            yield Entry(prefix, 0)
            if MONTH.fullmatch(prefix):
                for day in range(1, 32):
                    yield from self.below(f"{prefix}{day:02d}/")
        except (BaseError, OSError, ValueError) as error:
            raise self._explained(error, "be read") from error

    def _listed(self, prefix: str) -> list[Entry]:
        import obstore

        found: list[Entry] = []
        for some in obstore.list(self._objects, prefix, chunk_size=_PAGE):
            found += _entries(some)
            if len(found) > _MOST_LISTED:
                raise BadSettings(
                    f"The bucket {self.url} lists more than {_MOST_LISTED} reports in {prefix}.",
                    "No team makes so many in a month.",
                    "Look at what is there with the cloud's own tools.",
                )
        return found

    def _whole(self, path: str) -> bytes:
        found = self._objects.get(path)
        check_size(found.meta["size"], path)
        return bytes(found.bytes())

    def names(self, prefix: str, *, below: bool = False) -> Iterator[str]:
        """The paths of all that is in a folder, whatever it is; `below`: in all of it.

        None where one of them is a name that cannot be listed.

        Raises:
            CloudrunError: the store cannot be read.
        """
        import obstore
        from obstore.exceptions import BaseError, InvalidPathError

        try:
            if below:
                found = heard(lambda: obstore.list(self._objects, prefix or None).collect())
            else:
                level = heard(lambda: obstore.list_with_delimiter(self._objects, prefix or None))
                found = level["objects"]
        except InvalidPathError:
            return
        except (BaseError, OSError, ValueError) as error:
            raise self._explained(error, "be read") from error
        yield from (each["path"] for each in found)

    @cached_property
    def _objects(self) -> S3Store | GCSStore | AzureStore:
        from cloudrun.reports.bucket_access import objects

        return objects(self.scheme, self.bucket, self.prefix, self.patience_s)

    def _unreadable(self, error: Exception, path: str) -> CloudrunError:
        problem = self._explained(error, "be read")
        if not is_of_one_object(error):
            return problem
        kind = Missing if isinstance(error, FileNotFoundError) else BadData
        return kind(f"{path} cannot be read.", problem.why, "See: cloudrun report list")

    def _explained(self, error: Exception, verb: str) -> CloudrunError:
        return explained(error, self.scheme, self.bucket, verb)


def open_bucket(url: str, patience_s: float) -> Bucket:
    """The bucket that `url` names: `s3://BUCKET/PREFIX`, and so `gs://` and `az://`.

    Raises:
        WrongUsage: it cannot be the name of one.
    """
    scheme, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    parts = [part for part in prefix.split("/") if part]
    if not _BUCKET.fullmatch(bucket):
        raise WrongUsage(
            f"'{url}' has no name of a bucket in it.",
            "Names of buckets are three or more small letters, digits and hyphens.",
            f"Write it like {scheme}://my-bucket/reports",
        )
    if any(part in (".", "..") or not _PART.fullmatch(part) for part in parts):
        raise WrongUsage(
            f"'{url}' has a folder of an unusual name in it.",
            "",
            "Use letters, digits, hyphens, dots and underscores.",
        )
    return Bucket(scheme, bucket, "".join(f"{part}/" for part in parts), patience_s)


def _entries(found: Sequence[ObjectMeta]) -> Iterator[Entry]:
    """The JSON files among objects; what else lies there is not ours."""
    for meta in found:
        if meta["path"].endswith(".json"):
            # Of the hash of the content there may be none, where a cloud encrypts it.
            stamp = meta["e_tag"] or meta["last_modified"].isoformat()
            yield entry_of(meta["path"], meta["size"], f"{meta['size']}-{stamp}")


def _usual_folders(prefix: str) -> list[str]:
    """Which folders there may be, where a name that obstore cannot hold hides all beside it."""
    if prefix:
        return [f"{prefix}{month:02d}/" for month in range(1, 13)]
    return [f"{year}/" for year in range(_FIRST_YEAR, datetime.now(UTC).year + 1)]


def _unlistable(path: str) -> BadData:
    return BadData(
        f"An object in {path} has a name that no report can have.",
        "It may hide others that lie just beside it.",
        "Look at the bucket with the cloud's own tools, and rename it or remove it.",
    )
