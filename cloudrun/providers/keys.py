"""The keys of a run's machine: made for it, and gone with it (ed25519)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

# The private key that opens the machine, in the run's folder.
KEY = "key"


@dataclass(frozen=True)
class Keys:
    """The file of the key that opens the machine, its public one, and the machine's own pair."""

    file: Path
    public: str
    host_public: str
    host_private: str = field(repr=False)


def make(folder: Path) -> Keys:
    """Make both pairs; the machine's own private key is written down nowhere here."""
    private, public = _pair()
    host_private, host_public = _pair()
    file = folder / KEY
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="ascii") as written:
        written.write(private)
    return Keys(file, public, host_public, host_private)


def _pair() -> tuple[str, str]:
    """A private key in OpenSSH's format, and its public one as `ssh-ed25519 AAAA...`."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    openssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    return (
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ).decode(),
        key.public_key().public_bytes(*openssh).decode(),
    )
