"""What a report says of the GPUs, where torch and NVML are doubles."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator

import msgspec
import pytest
import torch

from cloudrun.reports.schema import Gpu
from cloudrun.workloads import device

pytestmark = pytest.mark.xdist_group("torch")


def test_each_gpu_is_told_apart_where_nvml_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = types.SimpleNamespace(
        name="Tesla T4", total_memory=2**34, major=7, minor=5, multi_processor_count=40
    )
    known = types.SimpleNamespace(uuid=lambda: "GPU-0", vbios=lambda: "90.04.38.00.03")

    @contextlib.contextmanager
    def open_device(index: int) -> Iterator[object]:
        yield known if index == 1 else None

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _index: properties)
    monkeypatch.setattr(device.nvml, "open_device", open_device)
    unknown, told = (
        msgspec.convert(gpu, Gpu, strict=True) for gpu in device.gpus(torch.device("cuda", 0))
    )
    assert (unknown.uuid, unknown.vbios, unknown.multiprocessors) == (None, None, 40)
    assert (told.uuid, told.vbios, told.multiprocessors) == ("GPU-0", "90.04.38.00.03", 40)
