"""The user's own private keys: those that an agent holds, and those in files."""

from __future__ import annotations

import base64
import io
import os
import socket
import sys
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm

from cloudrun.errors import AccessDenied
from cloudrun.hosts.base import Person
from cloudrun.hosts.lean import paramiko

LOCKED = "locked, with nobody to ask"
_TRIES = 3
_UNREADABLE = (paramiko.SSHException, UnsupportedAlgorithm, OSError, ValueError)


def of_agent(agent: str) -> list[paramiko.AgentKey]:
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


def public(path: Path) -> bytes:
    """The public half of a key file, as the agent would show it; empty when it is not told.

    The file may be that half itself, when the agent has the other one.
    """
    half = path if path.suffix == ".pub" else path.with_name(path.name + ".pub")
    try:
        return base64.b64decode(half.read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return b""


def load(path: Path, person: Person) -> tuple[paramiko.PKey | None, str]:
    """Read a private key, asking for its passphrase; why it cannot be used, when it cannot."""
    try:
        return _read(path, None), ""
    except TypeError:
        # So the library says that the key needs a passphrase.
        key = _unlock(path, person)
        return key, "" if key else LOCKED
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
