"""Calls to Google's Compute API: plain JSON over HTTP, what its errors mean, how long to wait.

Not the package google-cloud-compute: importing it takes ten times as long as what is
used here, and its operations are waited for at the public endpoint, whichever its
client has (docs/gcp.md has the numbers). The API:
https://cloud.google.com/compute/docs/reference/rest/v1
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any, cast

from cloudrun.errors import AccessDenied, CannotHave, CloudrunError, Unavailable
from cloudrun.providers.gcp import account
from cloudrun.providers.patience import Lost, Throttled, patiently

_CONNECT_S, _READ_S = 5, 30
# Google answers a wait within two minutes, whatever there is to say.
_WAIT_READ_S = 150
_LOOK_S = 1.0
_MOST_PAGES = 1000

# https://cloud.google.com/compute/docs/troubleshooting/troubleshooting-vm-creation
_ZONE = {
    "RESOURCE_NOT_FOUND",
    "RESOURCE_OPERATION_RATE_EXCEEDED",
    "RESOURCE_POOL_EXHAUSTED",
    "STOCKOUT",
    "UNSUPPORTED_OPERATION",
    "ZONE_RESOURCE_POOL_EXHAUSTED",
    "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    "insufficientCapacity",
}
_QUOTA = {"QUOTA_EXCEEDED", "quotaExceeded"}
_EVERYWHERE = "GPUS_ALL_REGIONS"
_DISABLED = {"SERVICE_DISABLED", "accessNotConfigured"}
_BILLING = {"BILLING_DISABLED", "billingNotEnabled"}
_AGAIN = {
    "RATE_LIMIT_EXCEEDED",
    "backendError",
    "internalError",
    "rateLimitExceeded",
    "resourceNotReady",
    "userRateLimitExceeded",
}
_PERMISSION = re.compile(r"Required '([\w.]+)' permission")
_QUOTAS_PAGE = "https://console.cloud.google.com/iam-admin/quotas"
_ELSE = "Try another region, another GPU, or the same later."
_LOG_IN = "Log in again (gcloud auth application-default login), then: cloudrun doctor"


class Refusal(Exception):
    """Google's own error: HTTP status, reason or code, words, other reasons, zones with capacity.

    `status` is 0 for one from within an operation.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        others: tuple[str, ...] = (),
        zones: tuple[str, ...] = (),
    ) -> None:
        super().__init__(status, reason, message)
        self.status, self.reason, self.message = status, reason, message
        self.others, self.zones = others, zones


def ask(
    doing: str,
    verb: str,
    path: str,
    *,
    body: Any = None,
    project: str | None = None,
    read_s: float = _READ_S,
    **query: Any,
) -> dict[str, Any]:
    """Call the Compute API once; its errors become ours, with `doing` in them.

    Args:
        doing: What it is to do, in words ("start the machine").
        verb: `GET`, `POST` or `DELETE`.
        path: Below the project, such as `zones/us-central1-a/instances`; empty is the project.
        body: What is sent as JSON.
        project: Another project than ours.
        read_s: How long to wait for the answer.
        query: The query's parameters; those that are None are left out.

    Raises:
        CannotHave: no capacity, or a quota.
        AccessDenied: credentials or permissions.
        Lost: no answer that makes sense.
        CloudrunError: anything else, with Google's own reason and words.
    """
    owner = project or account.project()
    url = "/".join(filter(None, [account.compute(), "projects", owner, path]))
    return send(doing, verb, url, body=body, read_s=read_s, **query)


def send(
    doing: str, verb: str, url: str, *, body: Any = None, read_s: float = _READ_S, **query: Any
) -> dict[str, Any]:
    """Call one of Google's APIs once; see `ask`."""
    session = account.session()
    from requests.exceptions import RequestException

    given = {name: value for name, value in query.items() if value is not None}
    try:
        answer = session.request(
            verb, url, params=given, json=body, timeout=(_CONNECT_S, read_s), allow_redirects=False
        )
        content = answer.content
    except RequestException as error:
        raise no_sense(doing, f"{_innermost(error)}.") from error
    except Exception as error:
        raise _unauthenticated(doing, error) from error
    return _read(doing, answer, content)


def _read(doing: str, answer: Any, content: bytes) -> dict[str, Any]:
    import json

    try:
        data = json.loads(content)
    except ValueError as error:
        start = content[:80].decode(errors="replace")
        why = f"HTTP {answer.status_code}, and no JSON but: {start}"
        raise no_sense(doing, why) from error
    if not isinstance(data, dict):
        raise no_sense(doing, f"HTTP {answer.status_code}, and no JSON object.")
    is_error = "error" in data and "operationType" not in data
    if answer.status_code >= 300 or is_error:
        refusal = _refusal(answer.status_code, data)
        raise explained(refusal, doing) from refusal
    return data


def insist(doing: str, verb: str, path: str, **more: Any) -> dict[str, Any]:
    """Call the API until it answers: for what does no harm when it is done twice; see `ask`."""
    return patiently(lambda: ask(doing, verb, path, **more))


def finish(doing: str, operation: dict[str, Any], scope: str, limit_s: float) -> None:
    """Wait for the end of an operation, at the same endpoint that began it.

    Args:
        doing: What it does, in words.
        operation: As Google answered it.
        scope: Where it is: `zones/us-central1-a`, `regions/...` or `global`.
        limit_s: For how long.

    Raises:
        Lost: it has not ended by then.
        CloudrunError: it failed; as `ask`.
    """
    until = time.monotonic() + limit_s
    name = str(operation.get("name", ""))
    if not name:
        raise no_sense(doing, "It gave no operation.")
    while operation.get("status") != "DONE":
        if time.monotonic() > until:
            raise no_sense(doing, f"The operation {name} has not ended in {limit_s:.0f} s.")
        asked = time.monotonic()
        operation = insist(doing, "POST", f"{scope}/operations/{name}/wait", read_s=_WAIT_READ_S)
        if operation.get("status") != "DONE":
            time.sleep(max(0.0, asked + _LOOK_S - time.monotonic()))
    errors = (operation.get("error") or {}).get("errors") or []
    if errors:
        refusal = _inner_refusal(errors)
        raise explained(refusal, doing) from refusal


def everything(doing: str, path: str, **more: Any) -> list[dict[str, Any]]:
    """All pages of a list; see `insist`."""
    with reading(doing):
        return [
            dict(item) for page in _pages(doing, path, **more) for item in page.get("items") or []
        ]


def aggregated(
    doing: str,
    collection: str,
    filter: str,  # noqa: A002 - Google's word
) -> tuple[list[dict[str, Any]], list[str]]:
    """What there is of a kind in all zones and regions, and which of these did not answer."""
    rows: list[dict[str, Any]] = []
    silent: list[str] = []
    with reading(doing):
        _gather(doing, collection, filter, rows, silent)
    return rows, [last(scope) for scope in dict.fromkeys(silent)]


def _gather(
    doing: str, collection: str, wanted: str, rows: list[dict[str, Any]], silent: list[str]
) -> None:
    for page in _pages(doing, f"aggregated/{collection}", filter=wanted):
        silent += page.get("unreachables") or []
        for scope, found in (page.get("items") or {}).items():
            kind, _, place = scope.partition("/")
            rows += [{kind[:-1]: place, **row} for row in found.get(collection) or []]
            if (found.get("warning") or {}).get("code") not in (None, "NO_RESULTS_ON_PAGE"):
                silent.append(scope)


def _pages(doing: str, path: str, **more: Any) -> Iterator[dict[str, Any]]:
    token = None
    for _ in range(_MOST_PAGES):
        page = insist(doing, "GET", path, pageToken=token, **more)
        yield page
        token = page.get("nextPageToken")
        if not token:
            return
    raise no_sense(doing, f"The list has more than {_MOST_PAGES} pages.")


@contextlib.contextmanager
def reading(doing: str) -> Iterator[None]:
    """Read an answer; one that lacks what Google says it holds makes no sense.

    Raises:
        Lost: so it is.
    """
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise no_sense(doing, f"{type(error).__name__}: {error}.") from error


def last(link: object) -> str:
    """The name at the end of a resource's URL."""
    return str(link or "").rpartition("/")[2]


def region_of(row: dict[str, Any]) -> str:
    """The region that a resource is in, by its zone or its own region; empty for a global one."""
    zone = last(row.get("zone"))
    return zone.rpartition("-")[0] if zone else last(row.get("region"))


def refusal_of(error: CloudrunError) -> Refusal | None:
    """Google's own error behind one of ours."""
    return error.__cause__ if isinstance(error.__cause__, Refusal) else None


@contextlib.contextmanager
def allowing(*statuses: int) -> Iterator[None]:
    """Let pass an answer that says that it is so already."""
    try:
        yield
    except CloudrunError as error:
        refusal = refusal_of(error)
        if refusal is None or refusal.status not in statuses:
            raise


def _refusal(status: int, data: dict[str, Any]) -> Refusal:
    """https://cloud.google.com/apis/design/errors#http_mapping"""
    error = data.get("error")
    error = error if isinstance(error, dict) else {"message": str(error)}
    each = [row for row in error.get("errors") or [] if isinstance(row, dict)]
    details = [row for row in error.get("details") or [] if isinstance(row, dict)]
    reasons = [str(row.get("reason") or "") for row in each]
    others = tuple(str(row.get("reason") or "") for row in details)
    reason = next(filter(None, reasons), "") or str(error.get("status") or status)
    return Refusal(status, reason, _words(error.get("message")), others)


def _inner_refusal(errors: list[dict[str, Any]]) -> Refusal:
    """The error of an operation, with the zones that it says do have capacity."""
    first = errors[0]
    zones: list[str] = []
    for detail in first.get("errorDetails") or []:
        there = (detail.get("errorInfo") or {}).get("metadatas") or {}
        zones += re.findall(r"[a-z0-9-]+", str(there.get("zonesAvailable") or ""))
    codes = tuple(str(error.get("code") or "") for error in errors[1:])
    return Refusal(0, str(first.get("code") or ""), _words(first.get("message")), codes,
                   tuple(zones))  # fmt: skip


def _words(text: object) -> str:
    return " ".join(str(text or "").split())[:500]


def explained(refusal: Refusal, doing: str) -> CloudrunError:
    """Say in our words what Google's error means; an unknown one in Google's own."""
    reasons = {refusal.reason, *refusal.others}
    quoted = f"Google says {refusal.reason}: {refusal.message}"
    if reasons & _QUOTA:
        return _no_quota(refusal, quoted)
    if reasons & _ZONE:
        return CannotHave(
            "Google has no machine of this type here now.",
            quoted,
            _ELSE,
            scope="zone",
            elsewhere=refusal.zones,
        )
    if reasons & _AGAIN or refusal.status == 429 or refusal.status >= 500:
        return Throttled(f"Google did not {doing}.", quoted, "Try again in a few minutes.")
    if refusal.status in (401, 403):
        return _denied(refusal, reasons, doing, quoted)
    return Unavailable(f"Google did not {doing}.", quoted, "")


def _no_quota(refusal: Refusal, quoted: str) -> CannotHave:
    """A quota of the region, or the one of all regions together."""
    if _EVERYWHERE in refusal.message:
        return CannotHave(
            "Your quota at Google allows no more GPU anywhere.",
            quoted,
            f"Ask for {_EVERYWHERE}, which takes Google a day or so: {_QUOTAS_PAGE}",
            scope="cloud",
        )
    return CannotHave(
        "Your quota at Google does not allow this machine here.",
        quoted,
        f"Ask for more, which takes Google a day or so: {_QUOTAS_PAGE}",
        scope="region",
    )


def _denied(refusal: Refusal, reasons: set[str], doing: str, quoted: str) -> AccessDenied:
    if refusal.status == 401:
        return AccessDenied("Google does not accept your credentials.", quoted, _LOG_IN)
    if reasons & _DISABLED:
        return AccessDenied(
            "The Compute Engine API is not enabled in your project.",
            quoted,
            f"Enable it: gcloud services enable compute.googleapis.com --project "
            f"{account.project()}",
        )
    if reasons & _BILLING:
        return AccessDenied(
            "Your project at Google has no billing account.",
            quoted,
            "Link one: https://console.cloud.google.com/billing/linkedaccount?project="
            f"{account.project()}",
        )
    found = _PERMISSION.search(refusal.message)
    lacks = f"Your account lacks the permission {found[1]}. " if found else ""
    return AccessDenied(
        f"Google does not allow you to {doing}.",
        f"{lacks}{quoted}",
        "See all that is missing: cloudrun doctor",
    )


def no_sense(doing: str, why: str) -> Lost:
    """The error for an answer that is none."""
    return Lost(
        f"Google gave no answer that makes sense when it was to {doing}.",
        why,
        "Look at the network here, and at https://status.cloud.google.com",
    )


def _innermost(error: BaseException) -> str:
    """What is at the bottom of what requests and urllib3 say, which is pages long."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)[:300].rstrip(".") or type(error).__name__


def _unauthenticated(doing: str, error: Exception) -> CloudrunError:
    """What google.auth raises when it cannot get a token."""
    try:
        from google.auth import exceptions
    except ImportError:
        raise error from None
    if isinstance(error, exceptions.TransportError):
        return no_sense(doing, f"{_innermost(error)}.")
    if isinstance(error, exceptions.GoogleAuthError):
        words = str(error.args[0] if error.args else error)[:300]
        return AccessDenied("Google does not accept your credentials.", words, _LOG_IN)
    raise cast(BaseException, error)
