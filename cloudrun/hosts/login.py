"""Logging in to a host with the user's keys: the agent's, and the files of the configuration."""

from __future__ import annotations

from collections.abc import Iterator

from cloudrun.errors import AccessDenied
from cloudrun.hosts import userkeys
from cloudrun.hosts.base import Person
from cloudrun.hosts.dial import BROKEN
from cloudrun.hosts.lean import paramiko
from cloudrun.hosts.route import Hop


def log_in(transport: paramiko.Transport, hop: Hop, person: Person) -> None:
    """Show the host one key after the other until it lets us in.

    Raises:
        AccessDenied: it lets none in, or wants more than a key.
    """
    tried: list[str] = []
    for name, key in _keys(hop, person):
        tried.append(name)
        if key is None:
            continue
        try:
            wanted = transport.auth_publickey(hop.user, key)
        except paramiko.BadAuthenticationType as error:
            raise AccessDenied(
                f"{hop} takes no keys.",
                f"It asks for: {', '.join(error.allowed_types)}.",
                "Put your public key on it: ssh-copy-id",
            ) from error
        except paramiko.AuthenticationException:
            continue
        except BROKEN as error:
            raise AccessDenied(
                f"{hop} closed the connection during the log-in.",
                f"Tried: {', '.join(tried)}. It may allow few tries.",
                "Name the right key with IdentityFile and IdentitiesOnly in ~/.ssh/config.",
            ) from error
        if transport.is_authenticated():
            return
        if wanted:
            raise AccessDenied(
                f"{hop} takes the key, and wants more.",
                f"It took {name}, and asks for: {', '.join(wanted)}.",
                "cloudrun logs in with a key alone: ask who runs the machine to allow that.",
            )
    raise _not_let_in(hop, tried)


def _not_let_in(hop: Hop, tried: list[str]) -> AccessDenied:
    why = f"Tried: {', '.join(tried)}." if tried else "There is no key to try."
    if any(userkeys.LOCKED in name for name in tried):
        remedy = "Unlock the key for this session: ssh-add. Or call cloudrun at a terminal."
    else:
        remedy = f"Put your public key on it: ssh-copy-id -p {hop.port} {hop.user}@{hop.host}"
    return AccessDenied(f"{hop} does not let you in.", why, remedy)


def _keys(hop: Hop, person: Person) -> Iterator[tuple[str, paramiko.PKey | None]]:
    """The keys to try: those of the configuration that the agent holds, its others, the files.

    None stands for a file that cannot be used; the name says why.
    """
    files = [path for path in hop.keys if path.exists()]
    public = [userkeys.public(path) for path in files]
    held = userkeys.of_agent(hop.agent)
    named = [key for key in held if key.asbytes() in public]
    others = [] if hop.only_these_keys else [key for key in held if key not in named]
    for key in (*named, *others):
        yield f"a key of the agent ({key.get_name()})", key
    in_agent = {key.asbytes() for key in named}
    for path, blob in zip(files, public, strict=True):
        if blob not in in_agent:
            own, why = userkeys.load(path, person)
            yield (f"{path} ({why})" if why else str(path)), own
