"""A third party's cloud: this machine, rented out by the hour, with its books in a file.

All that it has of cloudrun is the protocol; it comes in through the entry point.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cloudrun.errors import CannotHave, NoCredentials
from cloudrun.hosts.base import Host, Person
from cloudrun.hosts.local import LocalHost
from cloudrun.model.machine import Machine
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer
from cloudrun.model.resource import Resource
from cloudrun.model.run import now
from cloudrun.providers.base import Finding, Found, Order, Tell, nobody, owner, unusable

name = "attic"


def books() -> Path:
    """The file of all machines; where the variable is not set, nobody set this cloud up."""
    if "ATTIC_BOOKS" not in os.environ:
        raise NoCredentials("There is no attic here.", "ATTIC_BOOKS names none.")
    return Path(os.environ["ATTIC_BOOKS"])


def machines() -> dict[str, Any]:
    """The machines that are there; their deadline ends them."""
    file = books()
    rows = json.loads(file.read_text()) if file.exists() else {}
    return {name: row for name, row in rows.items() if row["deadline"] > now()}


def _write(rows: dict[str, Any]) -> None:
    books().write_text(json.dumps(rows))


def check() -> Sequence[Finding]:
    try:
        return [Finding(name, "pass", f"The books are in {books()}.")]
    except NoCredentials as error:
        return [unusable(name, error)]


def offers(need: Need, tell: Tell = nobody) -> Sequence[Offer]:
    books()
    today = datetime.now(UTC).date().isoformat()
    return [
        Offer(provider=name, device="cpu", region=region, instance_type="box",
              usd_per_hour=0.25, price_as_of=today, boot_s=1.0)
        for region in ("loft", "gable")
    ]  # fmt: skip


def create(offer: Offer, order: Order) -> Machine:
    if offer.region in os.environ.get("ATTIC_FULL", ""):
        raise CannotHave("The attic is full.", "", "Try the other one.", scope="region")
    box = f"box-{order.run_id}-{order.attempt}"
    rows, since = machines(), now()
    rows[box] = {"run": order.run_id, "region": offer.region, "deadline": order.deadline,
                 "owner": owner()}  # fmt: skip
    _write(rows)
    return Machine(id=box, offer=offer, deadline=order.deadline, since=since)


def connect(machine: Machine, person: Person, until: float) -> Host:
    return LocalHost(None)


def gone(machine: Machine) -> str | None:
    return None if machine.id in machines() else f"The attic has no {machine.id} any more."


def find(regions: Sequence[str] | None = None) -> Found:
    return Found([
        Resource(provider=name, kind="machine", id=box, usd_per_hour=0.25, **row)
        for box, row in machines().items()
        if regions is None or row["region"] in regions
    ])  # fmt: skip


def terminate(run_id: str, region: str | None, machine: Machine | None) -> str:
    rows = machines()
    _write({
        box: row
        for box, row in rows.items()
        if (row["run"], row["region"]) != (run_id, region or row["region"])
    })  # fmt: skip
    return now()


def installed(folder: Path) -> Path:
    """A folder for PYTHONPATH in which this is installed as a package of somebody's."""
    made = folder / "attic_cloud-1.0.dist-info"
    made.mkdir(parents=True)
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: attic-cloud\nVersion: 1.0\n")
    (made / "entry_points.txt").write_text("[cloudrun.providers]\nattic = attic_cloud\n")
    (folder / "attic_cloud.py").write_text(Path(__file__).read_text())
    return folder
