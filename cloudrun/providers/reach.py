"""Reach a machine that boots: wait for its address and its first answer, then log in."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloudrun.errors import AccessDenied, CloudrunError, HostUnreachable, Refused
from cloudrun.hosts.base import Person
from cloudrun.hosts.route import Hop
from cloudrun.hosts.ssh import SshHost
from cloudrun.model.machine import Machine
from cloudrun.providers import caller

_READY_S = 300.0
_LOOK_EVERY_S = 5.0
_TRY_EVERY_S = 0.2
# After so many looks without an answer, some ten seconds, we may be somewhere else.
_STUCK_LOOKS = 2
# After the first answer: the machine may still be busy with the user's key.
_LOG_IN_S = 30.0
_PORT = 22


@dataclass(frozen=True)
class State:
    """The machine's address, empty when it has none yet; in a sentence why it ended, if it did."""

    address: str = ""
    ended: str = ""


def reach(
    machine: Machine,
    person: Person,
    until: float,
    *,
    look: Callable[[], State],
    words: Callable[[], str],
    admit: Callable[[str], object],
    host_keys: Callable[[], Sequence[str]] = tuple,
) -> SshHost:
    """Wait until the machine answers, and log in with its own key, to its own host key.

    Args:
        machine: The machine; its `key`, `host_key` and `user` are known.
        person: Is told what happens on the way, and asked nothing.
        until: The moment (`time.monotonic()`) to give up at.
        look: Asks the cloud how the machine is.
        words: What its console said last, where the cloud tells.
        admit: Lets a range of addresses (CIDR) in too: a laptop may have moved since the
            machine was created.
        host_keys: The host keys that the machine told the cloud of, where one asks it by a
            channel that nobody else can write to; these are trusted as the one put on it is.

    Raises:
        HostUnreachable: it has ended, or does not answer in time.
        Refused: what answers has another host key.
        CloudrunError: the cloud cannot be asked.
    """
    until = min(until, time.monotonic() + _READY_S)
    address = _answering(machine, until, look, words, admit)
    file = Path(machine.key or "")
    known = file.with_name("known_hosts")
    hop = Hop(address, _PORT, machine.user or "", keys=(file,), only_these_keys=True)
    # Nobody is asked whether to trust another key than the one that was put on it.
    host = SshHost((hop,), known, Person(tell=person.tell), gpu_is_known=True)

    def trust() -> bool:
        told = host_keys()
        keys = dict.fromkeys((machine.host_key or "", *told))
        known.write_text("".join(f"{address} {key}\n" for key in keys if key), encoding="ascii")
        return bool(told)

    try:
        _log_in(host, min(until, time.monotonic() + _LOG_IN_S), trust)
    except Refused as error:
        raise _not_the_one(machine, error) from error
    return host


def _answering(
    machine: Machine,
    until: float,
    look: Callable[[], State],
    words: Callable[[], str],
    admit: Callable[[str], object],
) -> str:
    """The address of the machine, once something there answers."""
    looked_at, address, silent_looks = 0.0, "", 0
    while True:
        if not address or time.monotonic() > looked_at + _LOOK_EVERY_S:
            looked_at = time.monotonic()
            silent_looks += bool(address)
            if silent_looks == _STUCK_LOOKS:
                _admit_again(machine, admit)
            seen = look()
            if seen.ended:
                raise HostUnreachable(
                    "The machine ended before it could be reached.", seen.ended, "Try again."
                )
            address = seen.address
        if address and _answers(address):
            return address
        if time.monotonic() > until:
            raise _never_ready(machine, address, words())
        time.sleep(_TRY_EVERY_S)


def _admit_again(machine: Machine, admit: Callable[[str], object]) -> None:
    """Let us in from where we are now, if that is somewhere else."""
    if machine.admits is None or machine.private_ip:
        return
    # If this cannot be done either, the error is that nothing answers.
    with contextlib.suppress(CloudrunError):
        who = caller.caller(None, None)
        if who != machine.admits:
            admit(who)


def _answers(address: str) -> bool:
    try:
        socket.create_connection((address, _PORT), timeout=2).close()
    except OSError:
        return False
    return True


def _never_ready(machine: Machine, address: str, said: str) -> HostUnreachable:
    why = f"Nothing answered on port {_PORT} of {address}." if address else "It got no address."
    return HostUnreachable(
        f"The machine {machine.id} did not become ready.",
        f"{why} Its console says last: {said}" if said else why,
        "Some networks block port 22 on the way out: try another (a phone's), or a VPN with "
        "--private-ip. If your address changes on the way, see --ssh-from.",
    )


def _not_the_one(machine: Machine, refused: Refused) -> Refused:
    return Refused(
        f"What answers for the machine {machine.id} has another host key than was put on it.",
        refused.why,
        "If nobody can be in between, its image may not take keys from the cloud: name another "
        "with --image, or leave --image out.",
    )


def _log_in(host: SshHost, until: float, trust: Callable[[], bool]) -> None:
    while True:
        told = trust()
        try:
            host.link.open()
        except (HostUnreachable, AccessDenied, Refused) as error:
            # A machine that makes its own key may show one before it has told of it.
            wrong = isinstance(error, Refused) and not told
            if time.monotonic() > until or wrong:
                host.close()
                raise
            time.sleep(_TRY_EVERY_S)
        else:
            return
