"""A provider whose machines cost money on paper: this machine, at a price, and steerable.

What it imitates is cloudrun's own protocol (`cloudrun.providers.base`), not a cloud.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cloudrun.hosts.base import Person, Ready, Work
from cloudrun.hosts.local import LocalHost, LocalJob
from cloudrun.model.machine import Machine
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import now
from cloudrun.providers.base import Finding, Found, Order, Tell, nobody

SCRIPTS = Path(__file__).parent / "workloads"


@dataclass
class PaidProvider:
    """Offers machines at `prices`; its jobs are the scripts of doubles/workloads."""

    name: str = "paid"
    prices: tuple[float, ...] = (0.5,)
    script: str = "good.py"
    refuses: Exception | None = None
    created: list[str] = field(default_factory=list)
    terminated: list[str] = field(default_factory=list)

    def check(self) -> Sequence[Finding]:
        return []

    def offers(self, need: Need, tell: Tell = nobody) -> Sequence[Offer]:
        return [
            Offer(
                provider=self.name,
                device="cpu",
                instance_type=f"t{number}",
                usd_per_hour=price,
                price_as_of="2026-11-24",
            )
            for number, price in enumerate(self.prices)
        ]

    def create(self, offer: Offer, order: Order) -> Machine:
        since = now()
        self.created.append(order.run_id)
        if self.refuses:
            raise self.refuses
        return Machine(id=f"m-{order.run_id}", offer=offer, deadline=order.deadline, since=since)

    def connect(self, machine: Machine, person: Person, until: float) -> _Host:
        return _Host(self.script)

    def gone(self, machine: Machine) -> str | None:
        return None

    def find(self, regions: Sequence[str] | None = None) -> Found:
        return Found()

    def terminate(self, run_id: str, region: str | None, machine: Machine | None) -> str:
        self.terminated.append(f"m-{run_id}")
        return now()


class _Host(LocalHost):
    """A local host that runs one of the doubles' scripts, whatever it is asked for."""

    def __init__(self, script: str) -> None:
        super().__init__(None)
        self._script = script

    def start(self, ready: Ready, need: Need, work: Work) -> LocalJob:
        argv = (ready.python, str(SCRIPTS / self._script), *work.argv)
        return LocalJob(argv, None, {})
