"""Where an SSH target leads: the user's OpenSSH configuration, read as OpenSSH reads it.

paramiko reads the configuration but does not follow `Include`; here the
included files are put in its place first. See ssh_config(5).
"""

from __future__ import annotations

import getpass
import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cloudrun.errors import BadSettings, WrongUsage

if TYPE_CHECKING:
    from paramiko.config import SSHConfigDict

USER_CONFIG = Path("~/.ssh/config")
SYSTEM_CONFIG = Path("/etc/ssh/ssh_config")
_DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_DEFAULT_KNOWN = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_SYSTEM_KNOWN = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
# As deep as OpenSSH follows Include, and as many jumps as anybody has.
_DEEPEST, _MOST_JUMPS = 16, 8
_RUNS_A_COMMAND = re.compile(r"^\s*match\b.*\bexec\b", re.MULTILINE | re.IGNORECASE)
_LINE = re.compile(r"^\s*(\w+)(?:\s*=\s*|\s+)(.+?)\s*$")


@dataclass(frozen=True)
class Hop:
    """One connection on the way: where to, as whom, and what to trust and to show.

    `name` is the host's name in known_hosts (`HostKeyAlias`, else the host name).
    """

    host: str
    port: int
    user: str
    name: str
    keys: tuple[Path, ...] = ()
    only_these_keys: bool = False
    known_hosts: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")


def route(target: str, user_config: Path = USER_CONFIG) -> tuple[Hop, ...]:
    """Resolve `[USER@]HOST[:PORT]`, HOST being a name or an alias: the jumps, then the host.

    Raises:
        WrongUsage: the target makes no sense.
        BadSettings: the configuration cannot be read, or its jumps go round in a circle.
    """
    text = read_config(user_config.expanduser()) + read_config(SYSTEM_CONFIG)
    return _route(target, text, ())


def _route(target: str, text: str, before: tuple[str, ...]) -> tuple[Hop, ...]:
    user, host, port = split_target(target)
    if host in before or len(before) > _MOST_JUMPS:
        raise BadSettings(
            f"The jump hosts of '{before[0]}' go round in a circle.",
            "ProxyJump leads from " + " to ".join((*before, host)) + ".",
            "Look at ProxyJump in ~/.ssh/config.",
        )
    options = _lookup(text, host)
    if options.get("proxycommand") and not options.get("proxyjump"):
        raise BadSettings(
            f"'{host}' is reached through a ProxyCommand, which cloudrun does not run.",
            "",
            "Use ProxyJump in ~/.ssh/config instead.",
        )
    jumps = options.get("proxyjump", "none")
    way: tuple[Hop, ...] = ()
    for jump in () if jump_is_none(jumps) else jumps.split(","):
        way += _route(jump.strip(), text, (*before, host))
    return (*way, _hop(user, port, options))


def jump_is_none(jumps: str) -> bool:
    """Whether a ProxyJump says that there is none."""
    return jumps.strip().lower() in ("", "none")


def split_target(target: str) -> tuple[str | None, str, int | None]:
    """Take `[ssh://][USER@]HOST[:PORT]` apart; an IPv6 address stands in brackets.

    Raises:
        WrongUsage: there is no host, or the port is none.
    """
    try:
        parts = urlsplit(target if "://" in target else f"ssh://{target}")
        host, port = parts.hostname, parts.port
        if parts.password is not None or parts.path not in ("", "/"):
            host = None
    except ValueError:
        host, port = None, None
    # A host name may hold nothing that a shell or a log could take for more than a name.
    if not host or not re.fullmatch(r"[A-Za-z0-9._:%-]+", host) or host.startswith("-"):
        raise WrongUsage(
            f"'{target}' does not name a host.",
            "A host is [USER@]HOST[:PORT], without a password or a path, or an alias of your "
            "~/.ssh/config.",
            "Write it like me@box or ssh://me@box:2222.",
        )
    return parts.username, _as_written(target, host), port


def _as_written(target: str, host: str) -> str:
    """The host in the target's own spelling: urlsplit makes it lower case, aliases are not."""
    found = re.search(re.escape(host), target, re.IGNORECASE)
    return found[0] if found else host


def _lookup(text: str, host: str) -> SSHConfigDict:
    from cloudrun.hosts.lean import bring_invoke, paramiko

    if _RUNS_A_COMMAND.search(text):
        bring_invoke()
    try:
        return paramiko.SSHConfig.from_text(text).lookup(host)
    except (paramiko.ConfigParseError, KeyError, ValueError) as error:
        raise BadSettings(
            "Your SSH configuration cannot be understood.", f"{error}.", "Look at ~/.ssh/config."
        ) from error


def _hop(user: str | None, port: int | None, options: SSHConfigDict) -> Hop:
    own_keys = [path for path in options.get("identityfile", []) if path.lower() != "none"]
    known = options.get("userknownhostsfile", " ".join(_DEFAULT_KNOWN)).split()
    known += options.get("globalknownhostsfile", " ".join(_SYSTEM_KNOWN)).split()
    return Hop(
        # Lower case, as OpenSSH makes it: so it stands in known_hosts.
        host=options["hostname"].lower(),
        port=port or int(options.get("port", 22)),
        user=user or options.get("user") or getpass.getuser(),
        name=options.get("hostkeyalias") or options["hostname"].lower(),
        keys=tuple(Path(path).expanduser() for path in own_keys or _DEFAULT_KEYS),
        only_these_keys=options.get("identitiesonly", "no").lower() == "yes",
        known_hosts=tuple(Path(path).expanduser() for path in known if path.lower() != "none"),
    )


def read_config(path: Path) -> str:
    """A configuration file's text with every `Include` replaced by what it includes.

    Raises:
        BadSettings: a file is there and cannot be read.
    """
    return "\n".join(_expand(path, "", 0)) + "\n" if path.exists() else ""


def _expand(path: Path, outer: str, depth: int) -> list[str]:
    """The lines of a file, its blocks narrowed to the block that includes it.

    `outer` are the criteria of that block, as `Match` writes them. A block of
    the included file applies only where the outer one does too: a Match takes
    the criteria of both.
    """
    if depth > _DEEPEST:
        raise BadSettings(f"Your SSH configuration includes itself: {path}.")
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadSettings(
            f"The SSH configuration {path} cannot be read.", f"{error.strerror}."
        ) from error
    lines: list[str] = []
    current = outer
    for line in text.splitlines():
        key, value = _key_and_value(line)
        if key in ("host", "match"):
            current = " ".join(filter(None, (outer, _criteria(key, value))))
            lines.append(f"Match {current or 'all'}")
        elif key == "include":
            for included in _included(value, path):
                lines += _expand(included, current, depth + 1)
                lines.append(f"Match {current or 'all'}")
        elif key:
            lines.append(line)
    return lines


def _key_and_value(line: str) -> tuple[str, str]:
    found = None if line.lstrip().startswith("#") else _LINE.match(line)
    return (found[1].lower(), found[2]) if found else ("", "")


def _criteria(key: str, value: str) -> str:
    """A block's heading as criteria of a Match; nothing for one that always applies."""
    if key == "host":
        return f"originalhost {','.join(value.split())}"
    return "" if value.lower() == "all" else value


def _included(value: str, path: Path) -> list[Path]:
    """The files that an Include names: below ~/.ssh, or for the system's below /etc/ssh."""
    base = path.parent if str(path).startswith("/etc/") else USER_CONFIG.expanduser().parent
    found: list[Path] = []
    for pattern in value.replace('"', "").split():
        full = os.path.join(base, os.path.expanduser(pattern))
        found += map(Path, sorted(glob.glob(full)))
    return found
