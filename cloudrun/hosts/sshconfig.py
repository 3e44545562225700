"""What the user's OpenSSH configuration says of a host, read as OpenSSH reads it: ssh_config(5).

paramiko's own reader knows no `Include`, no `Match final`, no comment behind a
value and few tokens.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloudrun.errors import BadSettings

USER_CONFIG = Path("~/.ssh/config")
SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
# As deep as OpenSSH follows Include; the most seconds that a command of Match may take.
_DEEPEST, _EXEC_LIMIT_S = 16, 20
_LINE = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+|$)(.*)")
_PIECE = re.compile(r"""\\([\\'" ])|"((?:\\["\\']|[^"])*)"|'((?:\\['\\"]|[^'])*)'|([^\s"'])""")
_ESCAPED = re.compile(r"""\\([\\'"])""")

_WITH_TOKENS = {"identityagent", "identityfile", "userknownhostsfile"}

# Each keyword, in lower case, with its words; the first time that it is said counts.
Options = dict[str, tuple[str, ...]]


def lookup(host: str, known: Options, user_config: Path = USER_CONFIG) -> Options:
    """Give what the configuration says of a host, by its name or alias.

    Args:
        host: As the user wrote it.
        known: What is said already and counts first: `user` and `port` of the command line.
        user_config: The user's file; the system's is read after it.

    Returns:
        The options. `hostname` is always there; in names of files, tokens and variables
        are replaced.

    Raises:
        BadSettings: a file cannot be read, or makes no sense.
    """
    reading = _Reading(host, dict(known))
    for is_final in (False, True):
        if is_final:
            # All is read again; by then the host has its name.
            reading.is_final = True
            reading.options["hostname"] = (reading.hostname().replace("%", "%%"),)
        for path in (user_config.expanduser(), SYSTEM_CONFIG):
            if path.exists():
                _read(reading, path, path.parent, active=True, depth=0)
        if not reading.wants_final:
            break
    options = reading.options | {"hostname": (reading.hostname(),)}
    for keyword in _WITH_TOKENS & options.keys():
        options[keyword] = tuple(_replaced(word, reading) for word in options[keyword])
    return options


@dataclass
class _Reading:
    """A host's options while they are read; a Match may ask for what was read before it."""

    host: str
    options: Options = field(default_factory=dict)
    is_final: bool = False
    wants_final: bool = False

    def first(self, keyword: str, otherwise: str = "") -> str:
        return self.options.get(keyword, (otherwise,))[0]

    def hostname(self) -> str:
        """The host's real name: lower case, as OpenSSH makes it and as known_hosts has it."""
        written = self.first("hostname", "%h").replace("%%", "%\0").replace("%h", self.host)
        return written.replace("%\0", "%").lower()

    def name(self) -> str:
        """What `Host` is about: the name as written; when all is read again, the real one."""
        return self.hostname() if self.is_final else self.host

    def user(self) -> str:
        return self.first("user") or getpass.getuser()


def _read(reading: _Reading, path: Path, base: Path, *, active: bool, depth: int) -> None:
    """Read a file; where it is not `active`, the block that includes it is not about our host."""
    if depth > _DEEPEST:
        raise BadSettings(f"Your SSH configuration includes itself: {path}.")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadSettings(
            f"The SSH configuration {path} cannot be read.", f"{error.strerror}."
        ) from error
    block = active
    for number, line in enumerate(text.splitlines(), 1):
        keyword, words = _words(line)
        try:
            if keyword == "host":
                block = active and _is_one_of(reading.name(), words)
            elif keyword == "match":
                block = _applies(reading, words, active)
        except ValueError as error:
            raise BadSettings(
                f"Your SSH configuration cannot be understood: line {number} of {path}.",
                f"{error}.",
                "See what OpenSSH makes of it: ssh -G HOST",
            ) from error
        if keyword == "include":
            for included in _included(words, base):
                _read(reading, included, base, active=block, depth=depth + 1)
        elif block and words:
            _set(reading.options, keyword, words)


def _words(line: str) -> tuple[str, tuple[str, ...]]:
    """A line's keyword and its words: quotes joined, escapes undone, a comment cut off."""
    found = _LINE.fullmatch(line.rstrip())
    if not found or line.lstrip().startswith("#"):
        return "", ()
    words, rest = [], found[2].strip()
    while rest and not rest.startswith("#"):
        word, position = "", 0
        while piece := _PIECE.match(rest, position):
            escaped, double, single, plain = piece.groups()
            word += escaped or plain or _ESCAPED.sub(r"\1", double or single or "")
            position = piece.end()
        if position == 0:
            # A quote that does not end: OpenSSH refuses the line.
            break
        words.append(word)
        rest = rest[position:].strip()
    return found[1].lower(), tuple(words)


def _set(options: Options, keyword: str, words: tuple[str, ...]) -> None:
    if keyword in ("identityfile", "certificatefile"):
        options[keyword] = tuple(dict.fromkeys((*options.get(keyword, ()), words[0])))
    elif keyword in ("proxycommand", "proxyjump"):
        # Of the two that which comes first.
        if not {"proxycommand", "proxyjump"} & options.keys():
            options[keyword] = words
    else:
        options.setdefault(keyword, words)


def _included(words: Iterable[str], base: Path) -> Iterator[Path]:
    """The files that an Include names: below ~/.ssh, or for the system's below /etc/ssh."""
    for pattern in words:
        full = os.path.join(base, os.path.expanduser(os.path.expandvars(pattern)))
        yield from map(Path, sorted(glob.glob(full)))


def _applies(reading: _Reading, words: Sequence[str], applies: bool) -> bool:
    """Whether a Match is about our host; it is not where the block around it is not.

    Raises:
        ValueError: there is no such criterion.
    """
    for name, value in _criteria(words):
        criterion = name.lstrip("!")
        reading.wants_final = reading.wants_final or criterion == "final"
        # As OpenSSH does: what comes after one that fails is not looked at, and no command run.
        if criterion in _NEVER:
            applies = False
        elif applies:
            applies = _CRITERIA[criterion](reading, value) is not name.startswith("!")
    return applies


def _criteria(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The criteria of a Match, each with its value: `host a,b`, `host=a,b`, `!user root`, `all`."""
    if not words:
        raise ValueError("Match needs a criterion")
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        name = name.lower()
        if name.lstrip("!") not in _CRITERIA.keys() | _NEVER:
            raise ValueError(f"Match has no criterion '{name}'")
        if not equals and name.lstrip("!") not in ("all", "canonical", "final"):
            value = next(rest, "")
            if not value:
                raise ValueError(f"'{name}' lacks its value")
        yield name, value


_CRITERIA: dict[str, Callable[[_Reading, str], bool]] = {
    "all": lambda _reading, _value: True,
    "canonical": lambda reading, _value: reading.is_final,
    "final": lambda reading, _value: reading.is_final,
    "host": lambda reading, value: _is_listed(reading.hostname(), value.lower()),
    "originalhost": lambda reading, value: _is_listed(reading.host.lower(), value.lower()),
    "user": lambda reading, value: _is_listed(reading.user(), value),
    "localuser": lambda _reading, value: _is_listed(getpass.getuser(), value),
    "tagged": lambda reading, value: _is_listed(reading.first("tag"), value),
    "exec": lambda reading, value: _succeeds(_replaced(value, reading)),
}
# Where they are asked for, the block is left out, negated or not: nobody needs them to get
# to a host.
_NEVER = {"localnetwork", "sessiontype", "command", "version"}


def _is_listed(name: str, patterns: str) -> bool:
    return _is_one_of(name, patterns.split(","))


def _is_one_of(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns fits, and none of those with a `!` does."""
    fits = [pattern for pattern in patterns if _fits(name, pattern.removeprefix("!"))]
    return bool(fits) and not any(pattern.startswith("!") for pattern in fits)


def _fits(name: str, pattern: str) -> bool:
    wild = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(wild, name) is not None


def _succeeds(command: str) -> bool:
    """Run a command of the user's own configuration, as OpenSSH does."""
    try:
        done = subprocess.run(  # noqa: S602 - it is a shell's command by definition
            command,
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_EXEC_LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"'{command}' did not end within {_EXEC_LIMIT_S} s") from error
    return done.returncode == 0


def _replaced(word: str, reading: _Reading) -> str:
    """Put in what tokens (`%h`) and variables (`${HOME}`) stand for; unknown ones stay."""
    local = socket.gethostname()
    tokens = {
        "%": "%",
        "d": os.path.expanduser("~"),
        "h": reading.hostname(),
        "i": str(os.getuid()) if hasattr(os, "getuid") else "",
        "k": reading.first("hostkeyalias", reading.host),
        "L": local.partition(".")[0],
        "l": local,
        "n": reading.host,
        "p": reading.first("port", "22"),
        "r": reading.user(),
        "u": getpass.getuser(),
    }
    word = re.sub("%(.)", lambda found: tokens.get(found[1], found[0]), word)
    return re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], found[0]), word)
