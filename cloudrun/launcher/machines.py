"""The machines of runs, for those who want to be on one: a shell, notebooks."""

from __future__ import annotations

import time
from collections.abc import Callable

from cloudrun.errors import WrongUsage
from cloudrun.hosts import jupyter, shell
from cloudrun.hosts.base import Person
from cloudrun.hosts.ssh import HOME, SshHost, project_folder
from cloudrun.launcher.journal import RunRow
from cloudrun.model.need import NOTEBOOKS
from cloudrun.providers import base as providers

_REACH_S = 60.0


def open_shell(row: RunRow, person: Person) -> int:
    """Give the terminal to a shell on the run's machine; returns the shell's exit status.

    Raises:
        WrongUsage: the run's machine is this one.
        HostUnreachable: it cannot be reached, or was lost.
    """
    host = _reach(row, person)
    try:
        return shell.interact(host.link.connection)
    finally:
        host.close()


def notebooks(row: RunRow, person: Person, opened: Callable[[str], None], until: float) -> None:
    """Serve notebooks in the run's folder on its machine, until the server or we end.

    Args:
        row: The run.
        person: Who is asked and told on the way.
        opened: Is told the address to open here.
        until: The moment (`time.monotonic()`) at which jupyterlab must be installed.

    Raises:
        As `open_shell`; WorkloadFailed: the server cannot be installed or started.
    """
    host = _reach(row, person)
    try:
        python = host.python_with("jupyterlab", person.tell, until)
        command = row.need.command
        folder = project_folder(command) if command else f"{HOME}/notebooks"
        jupyter.serve(host.link.connection, python, folder, opened)
    finally:
        host.close()


def _reach(row: RunRow, person: Person) -> SshHost:
    """Open the run's machine."""
    machine = row.machine
    host = None
    if machine is not None and machine.offer.provider in NOTEBOOKS:
        raise WrongUsage(
            f"Run {row.id} has no machine that can be logged in to.",
            f"{machine.offer.provider.capitalize()} lends it for one job.",
            f"See what the job says: cloudrun logs -f {row.id}",
        )
    if machine is not None:
        until = time.monotonic() + _REACH_S
        host = providers.load(machine.offer.provider).connect(machine, person, until)
    if not isinstance(host, SshHost):
        raise WrongUsage(
            f"Run {row.id} has no machine but this one.", "", "Use this one as you always do."
        )
    return host
