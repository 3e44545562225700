"""Put a notebook into a secret gist of the user's.

GitHub's documents: "Create a gist" and "Rate limits and errors" of the REST API
(docs.github.com/en/rest/gists/gists). A secret gist is not listed, but whoever
has its address can read it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import cloudrun
from cloudrun.errors import AccessDenied, BadSettings, CloudrunError, HostUnreachable, Unavailable

_API = "https://api.github.com"
_TIMEOUT_S = 30
_MOST_ANSWER_BYTES = 16 * 2**20
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_NEEDS = "It needs the scope 'gist' (classic tokens) or 'Gists: write' (fine-grained ones)."


class Gist:
    """A gist that was made: its owner's name, its id and its address."""

    def __init__(self, owner: str, gist_id: str, url: str) -> None:
        self.owner = owner
        self.id = gist_id
        self.url = url


def token() -> str:
    """The user's token, from GITHUB_TOKEN or from the `gh` program.

    Raises:
        AccessDenied: there is none, or it is none.
    """
    found = os.environ.get("GITHUB_TOKEN", "").strip() or _token_of_gh()
    if not found:
        raise AccessDenied(
            "There is no token for GitHub.",
            "Neither GITHUB_TOKEN is set, nor is the program 'gh' here and logged in.",
            "Log in: gh auth login --scopes gist",
        )
    if not re.fullmatch(r"[\x21-\x7e]+", found):
        raise AccessDenied(
            "GITHUB_TOKEN holds no token.", "A token has no spaces and no line ends.", _NEEDS
        )
    return found


def _token_of_gh() -> str:
    program = shutil.which("gh")
    if program is None:
        return ""
    try:
        return subprocess.run(  # noqa: S603 - a fixed command line, no shell
            [program, "auth", "token"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def upload(name: str, content: bytes, secret: str) -> Gist:
    """Make a secret gist with one file.

    Args:
        name: The file's name.
        content: What is in it, UTF-8.
        secret: The token.

    Raises:
        AccessDenied: GitHub does not take the token, or it may not make gists.
        HostUnreachable: GitHub cannot be reached.
        Unavailable: it refuses for another reason.
    """
    body = {
        "description": "A notebook made by cloudrun",
        "public": False,
        "files": {name: {"content": content.decode()}},
    }
    api = _api()
    request = urllib.request.Request(  # noqa: S310 - checked by _api
        f"{api}/gists",
        json.dumps(body).encode(),
        {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {secret}",
            "Content-Type": "application/json",
            "User-Agent": f"cloudrun/{cloudrun.__version__}",
            "X-GitHub-Api-Version": "2022-11-28",
        },
        method="POST",
    )
    try:
        with _opener(api).open(request, timeout=_TIMEOUT_S) as answer:
            return _gist(answer.read(_MOST_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        raise _refusal(error) from error
    except (OSError, HTTPException) as error:
        why = getattr(error, "reason", None) or error
        raise HostUnreachable(
            f"GitHub cannot be reached at {api}.", f"{why}.", "Look at your network; try again."
        ) from error


def _api() -> str:
    """The address of GitHub's API; a token goes in the clear to this machine alone."""
    api = os.environ.get("GITHUB_API_URL", "").rstrip("/") or _API
    parts = urlsplit(api)
    is_here = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if parts.scheme != "https" and not is_here:
        raise BadSettings(
            f"GITHUB_API_URL is '{api}'.",
            "The token would go there unprotected.",
            f"Write an address that begins with https://, or unset it for {_API}",
        )
    return api


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: urllib would take the token along, to wherever it leads."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""


def _opener(api: str) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if urlsplit(api).hostname in _LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


def _gist(answer: bytes) -> Gist:
    try:
        said = json.loads(answer)
        gist = Gist(str(said["owner"]["login"]), str(said["id"]), str(said["html_url"]))
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise Unavailable(
            "GitHub's answer makes no sense.",
            f"{type(error).__name__}: {error}.",
            "Look whether the gist is there: https://gist.github.com",
        ) from error
    if not re.fullmatch(r"[A-Za-z0-9-]{1,100}/[0-9A-Za-z]{1,100}", f"{gist.owner}/{gist.id}"):
        raise Unavailable("GitHub's answer names no gist.", "", "Look: https://gist.github.com")
    return gist


def _refusal(error: urllib.error.HTTPError) -> CloudrunError:
    """What GitHub's status means; a token without the scope is told that there is no such page."""
    said = _message(error)
    if error.code == 401:
        return AccessDenied("GitHub does not take the token.", said, "Log in: gh auth login")
    if error.code == 429 or (error.code == 403 and error.headers.get("Retry-After")):
        return Unavailable("GitHub takes no more for the moment.", said, "Try again in an hour.")
    if error.code in (403, 404):
        return AccessDenied(
            "The token may not make a gist.",
            said,
            f"{_NEEDS} With gh: gh auth refresh --scopes gist",
        )
    return Unavailable(
        f"GitHub refused the gist with status {error.code}.", said, "Try again later."
    )


def _message(error: urllib.error.HTTPError) -> str:
    try:
        said = json.loads(error.read(_MOST_ANSWER_BYTES))
        return f"It says: {str(said['message']).rstrip('.')[:300]}."
    except (OSError, ValueError, LookupError, TypeError, RecursionError, HTTPException):
        return ""
