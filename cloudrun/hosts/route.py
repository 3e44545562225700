"""The way to an SSH target: the jump hosts, then the host, as the user's configuration has it."""

from __future__ import annotations

import getpass
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cloudrun.errors import BadSettings, WrongUsage
from cloudrun.hosts.sshconfig import USER_CONFIG, Options, lookup

_DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
_DEFAULT_KNOWN = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_SYSTEM_KNOWN = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
# As many jumps as anybody has.
_MOST_JUMPS = 8
_LAST_PORT = 65535


@dataclass(frozen=True)
class Hop:
    """One connection on the way: where to, as whom, and what to trust and to show.

    `alias` is its name in known_hosts where that is not the host's own (`HostKeyAlias`), `agent`
    where the agent is asked for keys, if not at its usual place (`IdentityAgent`).
    """

    host: str
    port: int
    user: str
    alias: str = ""
    keys: tuple[Path, ...] = ()
    only_these_keys: bool = False
    known_hosts: tuple[Path, ...] = ()
    agent: str = ""

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")

    @property
    def known_as(self) -> tuple[str, ...]:
        """Its names in known_hosts: a new key goes under the first; another port's is as good."""
        if self.alias or self.port == 22:
            return (self.alias or self.host,)
        return (f"[{self.host}]:{self.port}", self.host)


def route(target: str, user_config: Path = USER_CONFIG) -> tuple[Hop, ...]:
    """Resolve `[USER@]HOST[:PORT]`, HOST being a name or an alias: the jumps, then the host.

    Raises:
        WrongUsage: the target makes no sense.
        BadSettings: the configuration cannot be read, or its jumps go round in a circle.
    """
    return _route(target, user_config, ())


def _route(target: str, user_config: Path, before: tuple[str, ...]) -> tuple[Hop, ...]:
    user, host, port = split_target(target)
    if host in before or len(before) > _MOST_JUMPS:
        raise BadSettings(
            f"The jump hosts of '{before[0]}' go round in a circle.",
            "ProxyJump leads from " + " to ".join((*before, host)) + ".",
            "Look at ProxyJump in ~/.ssh/config.",
        )
    said = {"user": (user,) if user else (), "port": (str(port),) if port else ()}
    options = lookup(host, {key: words for key, words in said.items() if words}, user_config)
    if not _is_none(options.get("proxycommand", ())):
        raise BadSettings(
            f"'{host}' is reached through a ProxyCommand, which cloudrun does not run.",
            "",
            "Use ProxyJump in ~/.ssh/config instead.",
        )
    jumps = options.get("proxyjump", ())
    way: tuple[Hop, ...] = ()
    for jump in () if _is_none(jumps) else jumps[0].split(","):
        way += _route(jump.strip(), user_config, (*before, host))
    return (*way, _hop(host, options))


def _is_none(words: Sequence[str]) -> bool:
    return not words or words[0].lower() == "none"


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


def _hop(host: str, options: Options) -> Hop:
    own_keys = [path for path in options.get("identityfile", ()) if path.lower() != "none"]
    known = [
        *options.get("userknownhostsfile", _DEFAULT_KNOWN),
        *options.get("globalknownhostsfile", _SYSTEM_KNOWN),
    ]
    return Hop(
        host=options["hostname"][0],
        port=_port(host, options.get("port", ("22",))[0]),
        user=options.get("user", (getpass.getuser(),))[0],
        alias=options.get("hostkeyalias", ("",))[0],
        keys=tuple(Path(path).expanduser() for path in own_keys or _DEFAULT_KEYS),
        only_these_keys=options.get("identitiesonly", ("no",))[0].lower() == "yes",
        known_hosts=tuple(Path(path).expanduser() for path in known if path.lower() != "none"),
        agent=options.get("identityagent", ("",))[0],
    )


def _port(host: str, text: str) -> int:
    if text.isdecimal() and 0 < int(text) <= _LAST_PORT:
        return int(text)
    raise BadSettings(
        f"Your SSH configuration gives '{text}' as the port of '{host}'.",
        f"A port is a number from 1 to {_LAST_PORT}.",
        "Look at Port in ~/.ssh/config.",
    )
