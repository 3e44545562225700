from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.errors import WrongUsage
from cloudrun.model.need import GpuRequest, Need
from cloudrun.providers import base, local
from cloudrun.workloads.driver import Nvidia, NvidiaGpu

T4 = NvidiaGpu("Tesla T4", "580.126.09", "7.5", 15360)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> object:
    def has(seen: Nvidia | None, platform: str = "linux", processor: str = "x86_64") -> None:
        monkeypatch.setattr(local, "_nvidia", lambda: seen)
        monkeypatch.setattr(local.sys, "platform", platform)
        monkeypatch.setattr(local.platform, "machine", lambda: processor)

    return has


def offer(gpu: str | None = None, count: int = 1) -> tuple[str, str | None, int] | None:
    found = local.offers(Need(gpu=GpuRequest(gpu, count) if gpu else None))
    return (found[0].device, found[0].gpu, found[0].gpu_count) if found else None


def test_a_machine_without_a_gpu_offers_its_cpu(machine) -> None:  # type: ignore[no-untyped-def]
    machine(None)
    assert offer() == ("cpu", None, 0)
    assert offer("T4") is None


def test_a_mac_offers_its_gpu(machine) -> None:  # type: ignore[no-untyped-def]
    machine(None, "darwin", "arm64")
    assert offer() == ("mps", "Apple GPU", 1)
    machine(None, "darwin", "x86_64")
    assert offer() == ("cpu", None, 0)


def test_nvidia_gpus_are_offered_by_model_and_count(machine) -> None:  # type: ignore[no-untyped-def]
    machine(Nvidia((T4, T4), None))
    assert offer() == ("cuda", "Tesla T4", 2)
    assert offer("T4", 2) == ("cuda", "Tesla T4", 2)
    assert offer("T4", 4) is None
    assert offer("L4") is None


def test_a_gpu_with_a_broken_driver_is_no_reason_to_measure_the_cpu(machine) -> None:  # type: ignore[no-untyped-def]
    machine(Nvidia((), "NVIDIA-SMI has failed"))
    assert offer() == ("cuda", None, 0)
    statuses = {finding.name: finding.status for finding in local.check()}
    assert statuses["gpu"] == "fail"


def test_an_amd_gpu_is_said_not_to_be_measured(machine, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    machine(None)
    monkeypatch.setattr(local, "has_amd_gpu", lambda: True)
    assert offer() == ("cpu", None, 0)
    (gpu,) = [finding for finding in local.check() if finding.name == "gpu"]
    assert (gpu.status, "AMD GPU" in gpu.detail) == ("skip", True)
    machine(Nvidia((T4,), None))
    assert "AMD" not in str(local.check())


def test_an_unknown_name_is_a_mistake_and_not_a_missing_gpu(machine) -> None:  # type: ignore[no-untyped-def]
    machine(None)
    with pytest.raises(WrongUsage):
        offer("T44")


def test_it_is_found_by_its_name_and_keeps_the_protocol(tmp_path: Path) -> None:
    assert "local" in base.names()
    provider: base.Provider = base.load("local")
    assert provider.name == "local"
    found = provider.offers(Need())
    order = base.Order("arun", 1, "2026-11-24T09:00:00.000Z", Need(), tmp_path)
    created = provider.create(found[0], order)
    assert created.id == provider.create(found[0], order).id
    assert created.since is None
    assert provider.gone(created) is None
    provider.terminate("arun", None, created)
    provider.terminate("arun", None, created)
    assert provider.find() == base.Found()
    assert found[0].usd_per_hour == 0
