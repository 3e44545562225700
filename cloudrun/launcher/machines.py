"""The machines of runs, for those who want to be on one."""

from __future__ import annotations

from cloudrun.errors import Bug
from cloudrun.hosts.base import Person
from cloudrun.hosts.ssh import SshHost
from cloudrun.model.machine import Machine
from cloudrun.providers import base as providers


def reach(machine: Machine, person: Person) -> SshHost:
    """Open a machine that has an address."""
    host = providers.load(machine.offer.provider).connect(machine, person)
    if not isinstance(host, SshHost):
        raise Bug(f"The machine {machine.id} is not reached over SSH.")
    return host
