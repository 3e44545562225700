"""A simulated Google Cloud that this process, and none but it, sees; its machines are on paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudrun.model.need import GpuRequest, Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import later
from cloudrun.providers import patience
from cloudrun.providers.base import Order
from cloudrun.providers.gcp import account, ending
from tests.doubles.gce import Cloud

NEED = Need(targets=("gcp/us-central1",), gpu=GpuRequest("T4"), ssh_from="192.0.2.7/32")
OFFER = Offer(
    provider="gcp",
    device="cuda",
    region="us-central1",
    zone="us-central1-a",
    instance_type="n1-standard-4+1xnvidia-tesla-t4",
    gpu="T4",
    gpu_count=1,
    usd_per_hour=0.54,
    price_as_of="2026-08-03",
    boot_s=60.0,
)


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with Cloud() as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        account.forget()
        yield cloud
    account.forget()
    # A request that Google's own description of the API does not have fails any test.
    assert not cloud.refused


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_INSIST_S", 3.0)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(ending, "_LATE", (0.0, 0.05, 0.5))


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    """An order of the run `abc` for a machine, with anything of it changed."""

    def make(attempt: int = 1, need: Need = NEED, run: str = "abc", ttl_s: float = 1800) -> Order:
        folder = tmp_path / run
        folder.mkdir(exist_ok=True)
        return Order(run, attempt, later(ttl_s), need, folder)

    return make
