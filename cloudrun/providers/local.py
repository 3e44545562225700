"""This machine as a provider: one offer, free, and nothing to create or to end.

It goes through the same calls as every cloud, so that nothing above it has to
ask which kind it is.
"""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Sequence

from cloudrun.catalog.gpus import how_many
from cloudrun.hosts.base import Person
from cloudrun.hosts.local import LocalHost, is_too_old, torch_line
from cloudrun.model.machine import Machine
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import now
from cloudrun.providers.base import Finding, Found, Order, Tell, nobody
from cloudrun.workloads.driver import AMD_IS_NOT_MEASURED, Nvidia, has_amd_gpu, torch_version
from cloudrun.workloads.driver import nvidia as look_for_nvidia

name = "local"


@functools.cache
def _nvidia() -> Nvidia | None:
    """What this machine has of NVIDIA's; asked once, since it starts a program."""
    return look_for_nvidia()


def check() -> Sequence[Finding]:
    """Look at driver and torch, without loading torch."""
    return [_check_driver(), _check_torch()]


def offers(need: Need, tell: Tell = nobody) -> Sequence[Offer]:  # noqa: ARG001
    """This machine, when it has the GPU that is asked for, or none is."""
    seen = _nvidia()
    gpus = seen.gpus if seen else ()
    if need.gpu is not None:
        devices = [(gpu.name, gpu.memory_mib * 2**20) for gpu in gpus]
        if how_many(need.gpu.name, devices) < need.gpu.count:
            return []
    if seen is not None:
        # A GPU whose driver does not answer counts too: to measure the CPU instead,
        # without a word, would hide what is wrong.
        first = gpus[0].name if gpus else None
        return [Offer(provider=name, device="cuda", gpu=first, gpu_count=len(gpus))]
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return [Offer(provider=name, device="mps", gpu="Apple GPU", gpu_count=1)]
    return [Offer(provider=name, device="cpu")]


def create(offer: Offer, order: Order) -> Machine:
    """Nothing to create: we are on it."""
    return Machine(id=f"local-{order.run_id}", offer=offer, deadline=order.deadline)


def connect(machine: Machine, person: Person, until: float) -> LocalHost:  # noqa: ARG001
    """Open this machine as a host."""
    return LocalHost(_nvidia())


def gone(machine: Machine) -> str | None:  # noqa: ARG001
    """It is here."""
    return None


def find(regions: Sequence[str] | None = None) -> Found:  # noqa: ARG001
    """Nothing of ours can be left: a local job ends when cloudrun does."""
    return Found()


def terminate(run_id: str, region: str | None, machine: Machine | None) -> str:  # noqa: ARG001
    """Nothing to end."""
    return now()


def _check_driver() -> Finding:
    seen = _nvidia()
    if seen is None and has_amd_gpu():
        return Finding("gpu", "skip", AMD_IS_NOT_MEASURED)
    if seen is None:
        return Finding("gpu", "skip", "There is no NVIDIA GPU here; torch will use the CPU.")
    if seen.problem:
        return Finding(
            "gpu",
            "fail",
            f"There is an NVIDIA GPU, but its driver does not work: {seen.problem}",
            "Install NVIDIA's driver again and restart the machine.",
        )
    listed = ", ".join(gpu.name for gpu in seen.gpus)
    return Finding("gpu", "pass", f"NVIDIA driver {seen.gpus[0].driver}: {listed}.")


def _check_torch() -> Finding:
    installed = torch_version()
    line = torch_line(_nvidia())
    if installed is None:
        return Finding("torch", "fail", "torch is not installed for this Python.", line)
    if is_too_old(installed):
        again = torch_line(_nvidia(), again=True)
        return Finding("torch", "fail", f"torch {installed} is too old; 2.0 will do.", again)
    return Finding("torch", "pass", f"torch {installed}. The install line that fits: {line}")
