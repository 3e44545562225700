"""Logging in to a host with the user's keys: the agent's, and the files of the configuration."""

from __future__ import annotations

import base64
import io
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm

from cloudrun.errors import AccessDenied
from cloudrun.hosts.base import Person
from cloudrun.hosts.dial import BROKEN
from cloudrun.hosts.lean import paramiko
from cloudrun.hosts.route import Hop

_TRIES = 3
_LOCKED = "locked, with nobody to ask"
_UNREADABLE = (paramiko.SSHException, UnsupportedAlgorithm, OSError, ValueError)


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
    if any(_LOCKED in name for name in tried):
        remedy = "Unlock the key for this session: ssh-add. Or call cloudrun at a terminal."
    else:
        remedy = f"Put your public key on it: ssh-copy-id -p {hop.port} {hop.user}@{hop.host}"
    return AccessDenied(f"{hop} does not let you in.", why, remedy)


def _keys(hop: Hop, person: Person) -> Iterator[tuple[str, paramiko.PKey | None]]:
    """The keys to try: those of the configuration that the agent holds, its others, the files.

    None stands for a file that cannot be used; the name says why.
    """
    files = [path for path in hop.keys if path.exists()]
    public = [_public(path) for path in files]
    held = _agents_keys(hop.agent)
    named = [key for key in held if key.asbytes() in public]
    others = [] if hop.only_these_keys else [key for key in held if key not in named]
    for key in (*named, *others):
        yield f"a key of the agent ({key.get_name()})", key
    in_agent = {key.asbytes() for key in named}
    for path, blob in zip(files, public, strict=True):
        if blob not in in_agent:
            own, why = _load(path, person)
            yield (f"{path} ({why})" if why else str(path)), own


def _agents_keys(agent: str) -> list[paramiko.AgentKey]:
    """The keys of the agent: the session's own, or the one at an IdentityAgent's socket."""
    if agent.lower() == "none":
        return []
    if not agent or agent == "SSH_AUTH_SOCK" or sys.platform == "win32":
        return list(paramiko.Agent().get_keys())
    path = os.environ.get(agent[1:], "") if agent.startswith("$") else os.path.expanduser(agent)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.connect(path)
        asked = paramiko.agent.AgentSSH()
        asked._connect(sock)  # type: ignore[attr-defined]
        return list(asked.get_keys())
    except (OSError, paramiko.SSHException):
        # As for OpenSSH: an agent that is not there holds nothing.
        sock.close()
        return []


def _public(path: Path) -> bytes:
    """The public half of a key file, as the agent would show it; empty when it is not told.

    The file may be that half itself, when the agent has the other one.
    """
    half = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    try:
        return base64.b64decode(half.read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return b""


def _load(path: Path, person: Person) -> tuple[paramiko.PKey | None, str]:
    """Read a private key, asking for its passphrase; why it cannot be used, when it cannot."""
    try:
        return _read(path, None), ""
    except TypeError:
        # So the library says that the key needs a passphrase.
        key = _unlock(path, person)
        return key, "" if key else _LOCKED
    except _UNREADABLE:
        # Not every file that the configuration names is a private key that we can read.
        return None, "no key that can be read"


def _unlock(path: Path, person: Person) -> paramiko.PKey | None:
    """Ask for the passphrase, a few times; None where nobody gives one."""
    for _ in range(_TRIES):
        phrase = person.passphrase(path) if person.passphrase else None
        if phrase is None:
            return None
        try:
            return _read(path, phrase.encode())
        except _UNREADABLE:
            person.tell("That is not the passphrase.")
    raise AccessDenied(f"The passphrase for {path} is wrong.", "", "Try again.")


def _read(path: Path, phrase: bytes | None) -> paramiko.PKey:
    """Read a private key of any format that OpenSSH and OpenSSL write, with its certificate.

    Raises:
        TypeError: it needs a passphrase.
        One of _UNREADABLE: it is none, or the passphrase is wrong.
    """
    from cryptography.hazmat.primitives import serialization as formats
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    data = path.read_bytes()
    is_ssh = b"BEGIN OPENSSH" in data
    loaded = (formats.load_ssh_private_key if is_ssh else formats.load_pem_private_key)(
        data, phrase
    )
    kinds: tuple[tuple[type, type[paramiko.PKey]], ...] = (
        (ed25519.Ed25519PrivateKey, paramiko.Ed25519Key),
        (ec.EllipticCurvePrivateKey, paramiko.ECDSAKey),
        (rsa.RSAPrivateKey, paramiko.RSAKey),
    )
    kind = next((ours for theirs, ours in kinds if isinstance(loaded, theirs)), None)
    if kind is None:
        raise ValueError("no key that a host takes")
    text = loaded.private_bytes(
        formats.Encoding.PEM, formats.PrivateFormat.OpenSSH, formats.NoEncryption()
    ).decode()
    key = kind.from_private_key(io.StringIO(text))
    certificate = path.with_name(path.name + "-cert.pub")
    if certificate.exists():
        key.load_certificate(str(certificate))
    return key
