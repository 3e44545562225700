"""Is this the machine it says it is? Its host key against the known_hosts files.

Plain and hashed names, `[host]:port`, wildcards, `@revoked` and
`@cert-authority` lines, as sshd(8) describes the format. paramiko reads the
first two only.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_CERTIFICATE = "-cert-v01@openssh.com"
# An OpenSSH certificate for a host, not for a user (PROTOCOL.certkeys).
_HOST_CERTIFICATE = 2


class Verdict(Enum):
    """What the known_hosts files say of a key."""

    KNOWN = "known"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Line:
    """One line: its marker ("", "revoked", "cert-authority"), names, key's type and blob."""

    marker: str
    names: str
    kind: str
    blob: bytes


def judge(files: Iterable[Path], host: str, port: int, kind: str, blob: bytes) -> Verdict:
    """Judge a host's key.

    Args:
        files: The known_hosts files; those that are not there count as empty.
        host: The host's name, or its HostKeyAlias.
        port: Its port.
        kind: The key's type, such as `ssh-ed25519`, or a certificate's.
        blob: The key, or the certificate, in SSH's wire format.
    """
    lines = [line for line in _lines(files) if _is_about(line.names, host, port)]
    trusted = [line for line in lines if line.marker == ""]
    authorities = [line.blob for line in lines if line.marker == "cert-authority"]
    revoked = [line.blob for line in lines if line.marker == "revoked"]
    if kind.endswith(_CERTIFICATE):
        signer = signer_of(blob, host, time.time())
        if signer is None or signer not in authorities:
            return Verdict.UNKNOWN
        return Verdict.REVOKED if {signer, blob} & set(revoked) else Verdict.KNOWN
    if blob in revoked:
        return Verdict.REVOKED
    if any(line.blob == blob for line in trusted):
        return Verdict.KNOWN
    # Another key of the same type is a change; of another type, just one more to get to know.
    return Verdict.CHANGED if any(line.kind == kind for line in trusted) else Verdict.UNKNOWN


def kinds_known(files: Iterable[Path], host: str, port: int) -> list[str]:
    """The key types to ask the host for first: those that can be checked here."""
    kinds: list[str] = []
    for line in _lines(files):
        if line.marker != "revoked" and _is_about(line.names, host, port):
            if line.marker == "cert-authority":
                kinds.append("certificate")
            else:
                kinds.append(line.kind)
    return list(dict.fromkeys(kinds))


def fingerprint(blob: bytes) -> str:
    """A key's fingerprint as ssh-keygen prints it: `SHA256:...`."""
    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def entry(host: str, port: int, kind: str, blob: bytes) -> str:
    """The line that makes a key known."""
    return f"{_name(host, port)} {kind} {base64.b64encode(blob).decode()}\n"


def signer_of(blob: bytes, host: str, now: float) -> bytes | None:
    """The key that signed a host's certificate; None when the certificate is no good.

    It must be a host's, in its time, name this host (or none: then it is for
    all), and carry a right signature. `now` is in seconds since 1970.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        SSHCertificate,
        load_ssh_public_identity,
    )

    kind = _kind_of(blob)
    try:
        text = kind.encode() + b" " + base64.b64encode(blob)
        certificate = load_ssh_public_identity(text)
        if not isinstance(certificate, SSHCertificate):
            return None
        certificate.verify_cert_signature()
    except (ValueError, InvalidSignature):
        return None
    names = [name.decode(errors="replace") for name in certificate.valid_principals]
    good = (
        certificate.type.value == _HOST_CERTIFICATE
        and certificate.valid_after <= now < certificate.valid_before
        and (not names or host in names)
        and not certificate.critical_options
    )
    if not good:
        return None
    line = certificate.signature_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def _kind_of(blob: bytes) -> str:
    length = int.from_bytes(blob[:4], "big")
    return blob[4 : 4 + length].decode("ascii", errors="replace")


def _lines(files: Iterable[Path]) -> Iterator[Line]:
    for path in files:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            # As for OpenSSH: a file that is not there or not ours to read knows nothing.
            continue
        for raw in text.splitlines():
            line = _parse(raw)
            if line is not None:
                yield line


def _parse(raw: str) -> Line | None:
    fields = raw.split()
    marker = fields.pop(0)[1:] if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    try:
        return Line(marker, fields[0], fields[1], base64.b64decode(fields[2], validate=True))
    except binascii.Error:
        return None


def _is_about(names: str, host: str, port: int) -> bool:
    """Whether a line's names, plain patterns or one hash, name this host."""
    wanted = _name(host, port).lower()
    if names.startswith("|1|"):
        return _hash_matches(names, wanted)
    patterns = names.lower().split(",")
    if any(_matches(pattern[1:], wanted) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_matches(pattern, wanted) for pattern in patterns if not pattern.startswith("!"))


def _matches(pattern: str, wanted: str) -> bool:
    # `[` begins a port here, not a set of characters as fnmatch has it.
    return fnmatch.fnmatchcase(wanted, pattern.replace("[", "[[]"))


def _hash_matches(names: str, wanted: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in names[3:].split("|"))
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(hmac.new(salt, wanted.encode(), hashlib.sha1).digest(), digest)


def _name(host: str, port: int) -> str:
    return host if port == 22 else f"[{host}]:{port}"
