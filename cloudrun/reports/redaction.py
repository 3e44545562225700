"""Leave out of a report who and where its maker is: names, addresses, paths.

A report is made to be shared. What a reader needs for the numbers is kept; what he
would learn of a person, a home or a network is not.
"""

from __future__ import annotations

import contextlib
import getpass
import ipaddress
import re
import socket
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from cloudrun import settings
from cloudrun.errors import BadSettings
from cloudrun.reports.schema import Report

PATH, USER, HOST, ADDRESS = "[path]", "[user]", "[host]", "[address]"

# Every system has these, and what is in them.
_SYSTEM = ("/usr/", "/lib", "/proc", "/sys/", "/dev", "/etc/", "/bin/", "/sbin/", "/opt/")
_SYSTEM_OF_WINDOWS = (r"c:\windows", r"c:\program files")
# Names that say nothing of anybody.
_ANYBODY = ("root", "user", "ubuntu", "admin", "administrator", "runner", "localhost", "none",
            "gpu", "cpu", "cuda", "torch", "python", "test")  # fmt: skip
_SHORTEST_NAME = 3
# As the schema has them: what stands for a name may be longer than it.
_MOST_SHORT, _MOST_TEXT = 200, 4000
_END = r"\s'\"`:;,()<>|&*?\[\]"
_WHERE = re.compile(
    rf"""
    (?P<url>\b[a-z][a-z0-9+.-]+://[^\s'"`<>,]*)
    | (?P<windows>\b[A-Za-z]:\\(?:[^\\\s'"]+(?:\ [^\\\s'"]+)*\\)*[^\s'"]*|\\\\[\w.$-]+\\[^\s'"]*)
    | (?P<home>(?:/home|/Users|/root|/mnt|/media|/data|/srv|/workspace)(?:/[^{_END}]+)+)
    | (?P<path>(?<![\w/.\-])(?:~[\w.-]*)?/[A-Za-z_.][^{_END}]*)
    | (?P<who>[\w.+-]+@[\w-]+(?:\.[\w-]+)*)
    | (?P<v4>(?<![\w.])\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?![\w.]))
    | (?P<v6>(?<![\w:.])[0-9A-Fa-f]{{0,4}}(?::[0-9A-Fa-f]{{0,4}}){{2,7}}(?![\w:.]))
    """,
    re.VERBOSE,
)
_ABSOLUTE = re.compile(
    r"(?P<option>-{0,2}[\w-]*=)?(?P<path>(?:[/~]|[A-Za-z]:[\\/]|\\\\).*)", re.DOTALL
)


def wished() -> bool:
    """Whether names are to be left out: unless the settings ask for them (`report.names`)."""
    try:
        return not any(each.key == "report.names" and each.value for each in settings.read())
    except BadSettings:
        # At a run's end there is a report to save; the next command tells of the settings.
        return True


def redact(report: Report) -> Report:
    """The report without names of users and hosts, addresses and paths."""
    argv = report.provenance.argv
    names = _own_names() | _names_in(" ".join([report.run.target, *argv]))
    aliases = names | dict.fromkeys(_aliases(), HOST)
    replace = msgspec.structs.replace
    return replace(
        report,
        run=replace(report.run, target=_text(report.run.target, aliases)[:_MOST_SHORT]),
        provenance=replace(report.provenance, argv=tuple(_word(each, aliases) for each in argv)),
        checks=tuple(
            replace(each, detail=_text(each.detail, names), remedy=_text(each.remedy, names))
            for each in report.checks
        ),
        measurements=tuple(
            replace(row, note=_text(row.note, names)) for row in report.measurements
        ),
        notes=tuple(_text(note, names) for note in report.notes),
    )


def _own_names() -> dict[str, str]:
    """The names of this user and this machine, and what stands for each."""
    host = socket.gethostname()
    names = {Path.home().name: USER, host: HOST, host.partition(".")[0]: HOST}
    with contextlib.suppress(OSError, KeyError, ImportError):
        names[getpass.getuser()] = USER
    return names


def _names_in(text: str) -> dict[str, str]:
    """The user and the host of all `ssh://` addresses in a text."""
    names: dict[str, str] = {}
    for found in re.findall(r"ssh://[^\s'\",]+", text):
        with contextlib.suppress(ValueError):
            parts = urlsplit(found)
            names |= {parts.hostname or "": HOST, parts.username or "": USER}
    return names


def _aliases() -> list[str]:
    """What the settings call machines: words like any others, so only where one is named."""
    try:
        return list(settings.hosts())
    except BadSettings:
        return []


def _word(word: str, names: dict[str, str]) -> str:
    """One word of a command line; a path in it goes on to its end, with all spaces."""
    found = _ABSOLUTE.fullmatch(word)
    if found and not _is_everywhere(found["path"]):
        return f"{found['option'] or ''}{PATH}"
    return _text(word, names)


def _text(text: str, names: dict[str, str]) -> str:
    text = _WHERE.sub(_stand_in, text)
    known = {name.lower(): stand_in for name, stand_in in names.items()
             if len(name) >= _SHORTEST_NAME and name.lower() not in _ANYBODY}  # fmt: skip
    if known:
        longest_first = sorted(known, key=len, reverse=True)
        pattern = rf"(?<![\w\[])(?:{'|'.join(map(re.escape, longest_first))})(?!\w)"
        text = re.sub(pattern, lambda at: known[at[0].lower()], text, flags=re.IGNORECASE)
    return text[:_MOST_TEXT]


def _stand_in(found: re.Match[str]) -> str:
    said = found[0]
    match found.lastgroup:
        case "url":
            return _url(said)
        case "who":
            return f"{USER}@{HOST}"
        case "v4" | "v6":
            return ADDRESS if _is_address(said) else said
    return said if _is_everywhere(said) else PATH


def _url(url: str) -> str:
    """A public page stays; of other addresses only the kind."""
    scheme, _, rest = url.partition("://")
    place = rest.partition("/")[0]
    if scheme in ("http", "https") and "@" not in place:
        host = place.rpartition(":")[0] or place
        return url if "." in host and not _is_address(host) else f"{scheme}://{HOST}"
    return f"{scheme}://{HOST if scheme == 'ssh' else PATH}"


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _is_everywhere(path: str) -> bool:
    """Whether a path is part of every such system."""
    return path.startswith(_SYSTEM) or path.lower().startswith(_SYSTEM_OF_WINDOWS)
