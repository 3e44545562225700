"""AWS in rehearsal: all that the provider for AWS does, against a simulated AWS on this machine.

The machine that it rents is a process here, and the bill is pretended. It needs no
account and no network: to learn what a launch is, and to see what may go wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from cloudrun.errors import HostUnreachable, NotInstalled
from cloudrun.hosts.base import Person
from cloudrun.hosts.local import LocalHost
from cloudrun.model.machine import Machine
from cloudrun.model.need import Need, Rehearsal
from cloudrun.model.offer import Offer
from cloudrun.providers import aws, local
from cloudrun.providers.aws import calls, state
from cloudrun.providers.aws.offers import LEAST_BOOT_S
from cloudrun.providers.base import Finding, Found, Order, Tell, install_command, nobody

if TYPE_CHECKING:
    from cloudrun.rehearsal.cloud import Cloud
    from cloudrun.rehearsal.faults import Fault

name = "rehearsal"
# Enough to see the next one tried.
REGIONS = ("us-east-1", "us-west-2")
# Long enough to be seen, short enough to wait for.
_PENDING_S, _SLOW_S, _ENDING_S = 2.0, 20.0, 2.0
_INTERRUPTED_AFTER_S, _NOTICE_S = 3.0, 20.0
# An address that nobody has (RFC 5737): nobody comes in here.
_NOBODY = "192.0.2.1/32"

_playing: Cloud | None = None
_fault: Rehearsal = "plain"


@contextlib.contextmanager
def playing(fault: Rehearsal) -> Iterator[None]:
    """Have a simulated AWS for so long, with something that goes wrong in it.

    Raises:
        NotInstalled: what it is made of is not installed.
    """
    global _playing, _fault
    try:
        from cloudrun.rehearsal.cloud import Cloud
    except ImportError as error:
        raise NotInstalled(
            "cloudrun's rehearsal is not installed.",
            f"It needs {error.name}.",
            install_command("rehearse"),
        ) from error
    with Cloud() as cloud, _environment(cloud.environment()):
        cloud.pending_s = _SLOW_S if fault == "slow-boot" else _PENDING_S
        cloud.ending_s = _ENDING_S
        cloud.faults += _faults(fault)
        _playing, _fault = cloud, fault
        try:
            yield
        finally:
            _playing = None


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Let this process alone see this cloud, and no real one."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith("AWS_")]:
        del os.environ[name]
    # Nothing of it goes through anybody's proxy.
    os.environ.update(values | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"})
    calls.forget()
    try:
        yield
    finally:
        for name in [*values, "NO_PROXY", "no_proxy"]:
            os.environ.pop(name, None)
        os.environ.update(before)
        calls.forget()


def _faults(fault: Rehearsal) -> list[Fault]:
    from cloudrun.rehearsal.faults import Fault, no_capacity

    return {
        "stockout": [no_capacity(times=2)],
        "quota": [Fault("RunInstances", "VcpuLimitExceeded", region="us-east-1")],
        "lost-reply": [Fault("RunInstances", how="lost after", times=1)],
    }.get(fault, [])


def check() -> Sequence[Finding]:
    """Nothing can be missing."""
    return []


def offers(need: Need, tell: Tell = nobody) -> Sequence[Offer]:
    """What AWS would offer; what computes is this machine."""
    device = local.offers(Need())[0].device
    return [
        msgspec.structs.replace(offer, provider=name, device=device, boot_s=LEAST_BOOT_S)
        for offer in aws.offers(need, tell)
    ]


def create(offer: Offer, order: Order) -> Machine:
    """Order the machine, which stays on paper."""
    need = msgspec.structs.replace(order.need, ssh_from=_NOBODY)
    return aws.create(offer, dataclasses.replace(order, need=need))


def connect(machine: Machine, person: Person, until: float) -> LocalHost:
    """Wait until it would have booted; then it is this machine that answers."""
    person.tell("In this rehearsal it is this machine that does the work.")
    while not state.look(machine).address:
        if time.monotonic() > until:
            raise HostUnreachable(f"The machine {machine.id} did not become ready.")
        time.sleep(0.2)
    cloud = _playing
    if _fault == "spot-interruption" and cloud is not None:
        taken = threading.Timer(_INTERRUPTED_AFTER_S, cloud.interrupt, (machine.id, _NOTICE_S))
        taken.daemon = True
        taken.start()
    return local.connect(machine, person, until)


def gone(machine: Machine) -> str | None:
    """Whether AWS takes it back."""
    return aws.gone(machine)


def find(regions: Sequence[str] | None = None) -> Found:
    """What is left in the simulated AWS; it goes with its process."""
    return aws.find(regions) if _playing is not None else Found()


def terminate(run_id: str, region: str | None, machine: Machine | None) -> str:
    """End it; when its cloudrun was killed, all of it went with it."""
    if _playing is None:
        return local.terminate(run_id, region, machine)
    return aws.terminate(run_id, region, machine)
