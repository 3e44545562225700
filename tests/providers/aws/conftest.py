"""A simulated AWS that this process, and none but it, sees; its machines exist on paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloudrun.model.need import GpuRequest, Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import later
from cloudrun.providers.aws import calls
from cloudrun.providers.base import Order
from cloudrun.rehearsal.cloud import Cloud

NEED = Need(targets=("aws/us-east-1",), gpu=GpuRequest("T4"), ssh_from="192.0.2.7/32")
OFFER = Offer(
    provider="aws",
    device="cuda",
    region="us-east-1",
    zone="us-east-1a",
    instance_type="g4dn.xlarge",
    gpu="T4",
    gpu_count=1,
    usd_per_hour=0.526,
    price_as_of="2026-11-24",
    boot_s=60.0,
)


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    with Cloud() as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        calls.forget()
        yield cloud
    calls.forget()


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    """An order of the run `abc` for a machine, with anything of it changed."""

    def make(attempt: int = 1, need: Need = NEED, run: str = "abc", ttl_s: int = 1800) -> Order:
        return Order(run, attempt, later(ttl_s), need, tmp_path)

    return make
