"""A machine that is there already, reached over SSH: nothing to create, and not ours to end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cloudrun import settings
from cloudrun.errors import (
    AccessDenied,
    BadSettings,
    CannotHave,
    CloudrunError,
    HostUnreachable,
    Refused,
)
from cloudrun.hosts import connection as connections
from cloudrun.hosts import describe
from cloudrun.hosts.base import Person
from cloudrun.hosts.route import route
from cloudrun.hosts.ssh import SshHost
from cloudrun.model.machine import Machine
from cloudrun.model.need import SSH, Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import now
from cloudrun.providers.base import Finding, Found, Order, Tell, nobody

name = "ssh"
# For all that the doctor asks of a machine; a driver that hangs is given up before.
_LOOK_S = 10.0


def check() -> Sequence[Finding]:
    """Look at the machines that the settings name."""
    try:
        return look_at(settings.hosts())
    except BadSettings:
        # The doctor says so by itself.
        return []


def look_at(machines: Mapping[str, str]) -> list[Finding]:
    """Reach machines, all at once, and say what each has, or what hinders.

    Nobody is asked: a key that is not known, or is locked, is what hinders.

    Args:
        machines: Their targets, `ssh://...`, by the name to call them.
    """
    found: dict[str, Finding] = {}

    def look(name: str) -> None:
        found[name] = _look(name, machines[name])

    threads = [threading.Thread(target=look, args=(name,), daemon=True) for name in machines]
    ends = time.monotonic() + _LOOK_S
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    return [found.get(name) or _silent(name, target) for name, target in machines.items()]


def _look(name: str, target: str) -> Finding:
    label = f"ssh {name}"
    try:
        way = route(target)
        with connections.connect(way, _known_hosts()) as connection:
            seen = describe.there(connection)
    except CloudrunError as error:
        return Finding(label, "fail", f"{error.what} {error.why}".strip(), error.try_this)
    python, system = seen.environment.python, seen.environment.os
    has = f"{_gpus(seen)}; {system}."
    if seen.trouble:
        remedy = "Install NVIDIA's driver on it again and restart it."
        return Finding(label, "fail", f"Its NVIDIA driver does not work: {seen.trouble}", remedy)
    if not python:
        remedy = "For workloads in Python: sudo apt install python3 python3-venv"
        return Finding(label, "skip", f"No python3 is on its path; {has}", remedy)
    return Finding(label, "pass", f"Python {python}; {has}")


def _gpus(seen: describe.Description) -> str:
    names = ", ".join(gpu.name for gpu in seen.environment.gpus)
    return f"NVIDIA driver {seen.environment.driver}: {names}" if names else "no NVIDIA GPU"


def _silent(name: str, target: str) -> Finding:
    what = f"{target.removeprefix(SSH)} did not answer within {_LOOK_S:.0f} s."
    remedy = f"Is it on? Try it by hand: ssh -v {target}"
    return Finding(f"ssh {name}", "fail", what, remedy)


def offers(need: Need, tell: Tell = nobody) -> Sequence[Offer]:  # noqa: ARG001
    """The machines that the need names; what they have is seen when they are reached."""
    addresses = [target.removeprefix(SSH) for target in need.targets if target.startswith(SSH)]
    return [Offer(provider=name, device="auto", address=address) for address in addresses]


def create(offer: Offer, order: Order) -> Machine:
    """Nothing to create: it is there. Where others may be had instead, it must answer.

    Raises:
        CannotHave: it does not.
    """
    if len(order.need.targets) > 1:
        _must_answer(offer)
    return Machine(
        id=f"ssh-{order.run_id}", offer=offer, deadline=order.deadline, address=offer.address
    )


def _must_answer(offer: Offer) -> None:
    # What else is wrong is told when we connect in earnest, with a person to ask.
    with contextlib.suppress(Refused, AccessDenied):
        try:
            connections.connect(route(offer.address or ""), _known_hosts()).close()
        except HostUnreachable as error:
            raise CannotHave(error.what, error.why, error.try_this, scope="zone") from error


def _known_hosts() -> Path:
    return settings.places().state / "known_hosts"


def connect(machine: Machine, person: Person, until: float) -> SshHost:  # noqa: ARG001
    """Open a connection; the keys of hosts that a person trusts are kept among our own."""
    way = route(machine.address or "")
    host = SshHost(way, _known_hosts(), person)
    # Once, without patience: a machine that cannot be reached now will not be in a minute.
    host.link.open()
    return host


def gone(machine: Machine) -> str | None:  # noqa: ARG001
    """Nobody can tell; it is not ours."""
    return None


def find(regions: Sequence[str] | None = None) -> Found:  # noqa: ARG001
    """Nothing of ours can be left: the jobs there have their own deadlines."""
    return Found()


def terminate(run_id: str, region: str | None, machine: Machine | None) -> str:  # noqa: ARG001
    """Nothing to end."""
    return now()
