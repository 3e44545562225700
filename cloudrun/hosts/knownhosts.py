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
from collections.abc import Iterable, Iterator, Sequence
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
    """One line of a file: its marker ("", "revoked", "cert-authority"), names, key's type, blob."""

    file: Path
    marker: str
    names: str
    kind: str
    blob: bytes


def judge(files: Sequence[Path], names: Sequence[str], blob: bytes) -> Verdict:
    """Judge a host's key.

    Args:
        files: The known_hosts files; those that are not there count as empty.
        names: What the host is called in them, `box` or `[box]:2222`. The first one
            decides; a key that is known by another, and by the first none is, is known.
        blob: The key, or the certificate, in SSH's wire format.
    """
    verdicts = [_judge(about(files, name), name, blob) for name in names]
    if verdicts[0] is Verdict.UNKNOWN and Verdict.KNOWN in verdicts:
        return Verdict.KNOWN
    return verdicts[0]


def _judge(lines: Sequence[Line], name: str, blob: bytes) -> Verdict:
    kind = kind_of(blob)
    trusted = [line for line in lines if line.marker == ""]
    authorities = [line.blob for line in lines if line.marker == "cert-authority"]
    revoked = [line.blob for line in lines if line.marker == "revoked"]
    if kind.endswith(_CERTIFICATE):
        host = name[1:].rpartition("]:")[0] if name.startswith("[") else name
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


def about(files: Iterable[Path], name: str) -> list[Line]:
    """The lines that are about a host of this name."""
    return [line for line in _lines(files) if _is_about(line.names, name)]


def kinds_known(files: Sequence[Path], names: Sequence[str]) -> list[str]:
    """The key types to ask the host for first: those that can be checked here."""
    return list(dict.fromkeys(
        "certificate" if line.marker == "cert-authority" else line.kind
        for name in names
        for line in about(files, name)
        if line.marker != "revoked"
    ))  # fmt: skip


def fingerprint(blob: bytes) -> str:
    """A key's fingerprint as ssh-keygen prints it: `SHA256:...`."""
    digest = hashlib.sha256(blob).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def entry(name: str, blob: bytes) -> str:
    """The line that makes a host's key known."""
    return f"{name} {kind_of(blob)} {base64.b64encode(blob).decode()}\n"


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

    kind = kind_of(blob)
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


def kind_of(blob: bytes) -> str:
    """A key's type, as known_hosts has it; an RSA key's algorithm may have another name."""
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
            line = _parse(path, raw)
            if line is not None:
                yield line


def _parse(file: Path, raw: str) -> Line | None:
    fields = raw.split()
    marker = fields.pop(0)[1:] if fields and fields[0].startswith("@") else ""
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    try:
        blob = base64.b64decode(fields[2], validate=True)
    except binascii.Error:
        return None
    return Line(file, marker, fields[0], fields[1], blob)


def _is_about(names: str, name: str) -> bool:
    """Whether a line's names, plain patterns or one hash, name this host."""
    wanted = name.lower()
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
