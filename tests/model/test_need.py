from __future__ import annotations

import pytest

from cloudrun.errors import WrongUsage
from cloudrun.model.need import GpuRequest, Need, parse_gpu, parse_targets
from cloudrun.model.run import new_run_id


@pytest.mark.parametrize(
    ("text", "request_"), [("T4", GpuRequest("T4", 1)), ("A100-80GB:8", GpuRequest("A100-80GB", 8))]
)
def test_a_gpu_and_a_count_are_read(text: str, request_: GpuRequest) -> None:
    assert parse_gpu(text) == request_
    assert str(request_) == text


@pytest.mark.parametrize("text", ["", ":2", "T4:", "T4:0", "T4:x", "T4:-1", "T4:17", "T4:²"])
def test_what_names_no_gpu_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage):
        parse_gpu(text)


def test_targets_are_read_in_order() -> None:
    assert parse_targets(" local , auto,", ("auto", "local")) == ("local", "auto")


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(WrongUsage, match="'lokal'.*Did you mean 'local'"):
        parse_targets("lokal", ("auto", "local"))
    with pytest.raises(WrongUsage, match="No target"):
        parse_targets(",", ("auto", "local"))


def test_all_means_smoke_then_bench() -> None:
    assert Need().workloads == ("smoke", "bench")
    assert Need(workload="bench").workloads == ("bench",)


def test_run_ids_differ_and_fit_every_clouds_names() -> None:
    ids = {new_run_id() for _ in range(2000)}
    assert len(ids) == 2000
    assert all(len(i) == 12 and i.isalnum() and i.islower() and i[0].isalpha() for i in ids)
