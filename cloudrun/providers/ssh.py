"""A machine that is there already, reached over SSH: nothing to create, and not ours to end."""

from __future__ import annotations

from collections.abc import Sequence

from cloudrun import settings
from cloudrun.hosts.base import Person
from cloudrun.hosts.ssh import SshHost
from cloudrun.hosts.sshconfig import route
from cloudrun.model.machine import Machine
from cloudrun.model.need import SSH, Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import now
from cloudrun.providers.base import Finding, Found, Order

name = "ssh"


def check() -> Sequence[Finding]:
    """Nothing to look at before a machine is named."""
    return []


def offers(need: Need) -> Sequence[Offer]:
    """The machines that the need names; what they have is seen when they are reached."""
    addresses = [target.removeprefix(SSH) for target in need.targets if target.startswith(SSH)]
    return [Offer(provider=name, device="auto", address=address) for address in addresses]


def create(offer: Offer, order: Order) -> Machine:
    """Nothing to create: it is there."""
    return Machine(
        id=f"ssh-{order.run_id}", offer=offer, deadline=order.deadline, address=offer.address
    )


def connect(machine: Machine, person: Person, until: float) -> SshHost:  # noqa: ARG001
    """Open a connection; the keys of hosts that a person trusts are kept among our own."""
    way = route(machine.address or "")
    host = SshHost(way, settings.places().state / "known_hosts", person)
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
