"""Links that open a notebook in Colab, in the forms that Colab documents or that are everywhere.

GitHub and the badge: googlecolab/colabtools, notebooks/colab-github-demo.ipynb.
Gists and `#fileId=`: no document of Colab's names them; Hugging Face's, DagsHub's
and Kaggle's own buttons use them. No link runs a notebook: its reader does.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from cloudrun.errors import WrongUsage

COLAB = "https://colab.research.google.com"
UPLOAD = f"{COLAB}/#upload=true"
_BADGE = f"{COLAB}/assets/colab-badge.svg"
_REPOSITORY = re.compile(
    r"(?P<owner>[A-Za-z0-9][A-Za-z0-9-]{0,38})/(?P<name>[A-Za-z0-9._-]{1,100})"
    r"(?:/(?P<path>[^@]+))?(?:@(?P<ref>[^\s@]+))?"
)
_DEFAULT_REF = "main"


def github(text: str) -> str:
    """The link for `OWNER/REPO[/PATH][@REF]`; without a path, to the repository's notebooks.

    Raises:
        WrongUsage: it is of another form, or the path is no notebook's.
    """
    found = _REPOSITORY.fullmatch(text.strip())
    parts = (found["path"] or "").split("/") if found else []
    if found is None or {".", ".."} & {found["name"], *parts}:
        raise WrongUsage(
            f"'{text}' names no place on GitHub.",
            "It is written OWNER/REPO, with the notebook's path and a branch or tag if you like.",
            "Write it like: --github me/course/notebooks/cloudrun.ipynb@main",
        )
    repository = f"{COLAB}/github/{found['owner']}/{found['name']}"
    if found["path"] is None:
        return f"{repository}/blob/{_quoted(found['ref'])}" if found["ref"] else f"{repository}/"
    if not found["path"].endswith(".ipynb"):
        raise WrongUsage(
            f"'{found['path']}' is no notebook.",
            "Colab opens files that end in .ipynb.",
            "Write it like: --github me/course/notebooks/cloudrun.ipynb@main",
        )
    return f"{repository}/blob/{_quoted(found['ref'] or _DEFAULT_REF)}/{_quoted(found['path'])}"


def gist(user: str, gist_id: str, file: str) -> str:
    """The link to a notebook in a gist of a user's."""
    return f"{COLAB}/gist/{_quoted(user)}/{_quoted(gist_id)}/{_quoted(file)}"


def public(url: str) -> str:
    """The link to a notebook at any public https address.

    Raises:
        WrongUsage: Colab could not fetch it, or the address holds a password.
    """
    try:
        parts = urlsplit(url)
        host, has_secret = parts.hostname or "", "@" in parts.netloc
    except ValueError:
        parts, host, has_secret = urlsplit(""), "", False
    if parts.scheme != "https" or not _is_public(host) or not url.isprintable() or " " in url:
        raise WrongUsage(
            f"Colab could not fetch '{url}'.",
            "It fetches from public addresses that begin with https://.",
            "Put the notebook where everybody can read it, or use: --gist",
        )
    if has_secret:
        raise WrongUsage(
            "The address holds a user's name or password.",
            "A link is passed on, and all of it is seen.",
            "Put the notebook where everybody can read it, or use: --gist",
        )
    return f"{COLAB}/#fileId={quote(url, safe='')}"


def _is_public(host: str) -> bool:
    """Whether a host may be one that everybody can reach, by its name alone."""
    private = (
        r"localhost|.*\.(local|internal|lan|localhost)|(0|10|127|192\.168|169\.254)\..*|\[?.*:.*"
    )
    return "." in host and not re.fullmatch(private, host)


def markdown(link: str) -> str:
    """The badge for a README."""
    return f"[![Open In Colab]({_BADGE})]({link})"


def html(link: str) -> str:
    """The badge for a web page."""
    safe = link.replace("&", "&amp;").replace('"', "&quot;")
    return f'<a href="{safe}"><img src="{_BADGE}" alt="Open In Colab"/></a>'


def _quoted(text: str) -> str:
    # What Markdown would take for its own is written as a number too.
    return quote(text, safe="/")
