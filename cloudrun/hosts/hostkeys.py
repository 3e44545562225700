"""Whom a connection trusts: the host's key, before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cloudrun.errors import Refused
from cloudrun.hosts import dial
from cloudrun.hosts.base import Person
from cloudrun.hosts.knownhosts import (
    Verdict,
    about,
    entry,
    fingerprint,
    judge,
    kind_of,
    kinds_known,
)
from cloudrun.hosts.lean import paramiko
from cloudrun.hosts.route import Hop

_CERTIFICATE = "-cert-v01@openssh.com"


def shake_hands(
    transport: paramiko.Transport, hop: Hop, own_known_hosts: Path, person: Person
) -> None:
    """Agree on keys with the host, and judge its own.

    Raises:
        HostUnreachable: it is lost on the way, or no SSH server.
        Refused: its key is unknown, has changed or is revoked.
    """
    files = (own_known_hosts, *hop.known_hosts)
    _prefer_known(transport, kinds_known(files, hop.known_as))
    try:
        transport.start_client(timeout=dial.CONNECT_S)
        key = transport.get_remote_server_key()
    except dial.BROKEN as error:
        raise dial.unreachable(hop, error) from error
    algorithm = transport.host_key_type or ""
    certificate = key.public_blob if algorithm.endswith(_CERTIFICATE) else None
    blob = key.asbytes()
    verdict = judge(files, hop.known_as, blob)
    if certificate is not None and verdict is not Verdict.REVOKED:
        signed = judge(files, hop.known_as, certificate.key_blob)
        # One that nobody vouches for is worth as much as the plain key in it.
        verdict = signed if signed is not Verdict.UNKNOWN else verdict
    if verdict is Verdict.UNKNOWN:
        _ask_to_trust(hop, blob, person)
        _remember(own_known_hosts, entry(hop.known_as[0], blob))
    elif verdict is not Verdict.KNOWN:
        raise _not_the_known(hop, files, verdict, blob)


def _not_the_known(hop: Hop, files: Sequence[Path], verdict: Verdict, blob: bytes) -> Refused:
    name, shown = hop.known_as[0], fingerprint(blob)
    if verdict is Verdict.REVOKED:
        return Refused(f"The host key of {hop} has been revoked.", f"It shows {shown}.")
    known = [line for line in about(files, name) if line.kind == kind_of(blob)]
    held = " and ".join(dict.fromkeys(str(line.file) for line in known))
    return Refused(
        f"The host key of {hop} has changed.",
        f"It shows {shown}, and {held} has another one. Somebody may be between you and the "
        "host, or it was set up anew.",
        f"If you know that it was set up anew, remove '{name}' from {held}"
        f" (ssh-keygen -R '{name}' -f '{known[0].file}').",
    )


def _prefer_known(transport: paramiko.Transport, kinds: list[str]) -> None:
    """Ask the host for a key of a type that can be checked here."""
    options = transport.get_security_options()
    plain = list(options.key_types)
    certificates = [f"{kind}{_CERTIFICATE}" for kind in plain] if "certificate" in kinds else []
    # One RSA key goes by several names.
    known = [kind for kind in plain if kind in kinds or ("ssh-rsa" in kinds and "rsa" in kind)]
    options.key_types = [*certificates, *known, *(kind for kind in plain if kind not in known)]


def _ask_to_trust(hop: Hop, blob: bytes, person: Person) -> None:
    """An unknown key needs a person's yes; --yes is none."""
    shown = f"{kind_of(blob)} {fingerprint(blob)}"
    if person.trust is None:
        raise Refused(
            f"The host key of {hop} is not known.",
            f"It shows {shown}, and there is nobody to ask.",
            f"Connect once by hand and compare it: ssh {hop.user}@{hop.host} -p {hop.port}",
        )
    if not person.trust(f"The host key of {hop} is not known: {shown}. Do you trust it?"):
        raise Refused(f"The host key of {hop} is not trusted.", "You said no.")


def _remember(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line)
