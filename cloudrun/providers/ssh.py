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
from cloudrun.providers.base import Finding

name = "ssh"


def check() -> Sequence[Finding]:
    """Nothing to look at before a machine is named."""
    return []


def offers(need: Need) -> Sequence[Offer]:
    """The machines that the need names; what they have is seen when they are reached."""
    addresses = [target.removeprefix(SSH) for target in need.targets if target.startswith(SSH)]
    return [Offer(provider=name, device="auto", address=address) for address in addresses]


def create(offer: Offer, run_id: str, deadline: str) -> Machine:
    """Nothing to create: it is there."""
    return Machine(id=f"ssh-{run_id}", offer=offer, deadline=deadline, address=offer.address)


def connect(machine: Machine, person: Person) -> SshHost:
    """Open a connection; the keys of hosts that a person trusts are kept among our own."""
    way = route(machine.address or "")
    host = SshHost(way, settings.places().state / "known_hosts", person)
    # Once, without patience: a machine that cannot be reached now will not be in a minute.
    host.link.open()
    return host


def find() -> Sequence[Machine]:
    """Nothing of ours can be left: the jobs there have their own deadlines."""
    return []


def terminate(machine: Machine) -> None:
    """Nothing to end."""
