"""The keys of a run's machine: made for it, and gone with it (ed25519)."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

# In the run's folder: the private key that opens the machine, and the machine's own.
KEY, _HOST_KEY = "key", "host_key"


@dataclass(frozen=True)
class Keys:
    """The file of the key that opens the machine, its public one, and the machine's own pair."""

    file: Path
    public: str
    host_public: str
    host_private: str = field(repr=False)


def make(folder: Path) -> Keys:
    """Make both pairs, or read those that were made for the run before.

    An order that is made again must be the same to the letter.
    """
    _, public = _pair(folder / KEY)
    host_private, host_public = _pair(folder / _HOST_KEY)
    return Keys(folder / KEY, public, host_public, host_private)


def forget(folder: Path) -> None:
    """Remove both, where they are."""
    for name in (KEY, _HOST_KEY):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            (folder / name).unlink()


def _pair(file: Path) -> tuple[str, str]:
    """A private key in OpenSSH's format, and its public one as `ssh-ed25519 AAAA...`."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    with contextlib.suppress(FileNotFoundError):
        text = file.read_text("ascii")
        known = serialization.load_ssh_private_key(text.encode(), password=None)
        return text, _public(known.public_key())
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    ).decode()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as written:
        written.write(text)
    return text, _public(key.public_key())


def _public(key: object) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    assert isinstance(key, Ed25519PublicKey)  # noqa: S101 - we made it
    raw = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return raw.decode()
