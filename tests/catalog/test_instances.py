from __future__ import annotations

from collections import Counter
from datetime import date
from fractions import Fraction

import pytest

from cloudrun.catalog import gpus, instances
from cloudrun.catalog.instances import Instance
from cloudrun.errors import WrongUsage

EVERY_INSTANCE = pytest.mark.parametrize(
    "instance", instances.all_instances(), ids=lambda each: f"{each.cloud}-{each.instance_type}"
)


@EVERY_INSTANCE
def test_its_gpu_is_in_the_catalogue(instance: Instance) -> None:
    assert instance.gpu in {gpu.name for gpu in gpus.all_gpus()}


@EVERY_INSTANCE
def test_a_price_has_its_place_and_day_and_a_plausible_size(instance: Instance) -> None:
    priced = instance.usd_per_hour is not None
    assert priced == bool(instance.region) == (instance.price_as_of is not None)
    if instance.usd_per_hour is not None and instance.price_as_of is not None:
        assert date(2026, 1, 1) <= instance.price_as_of
        assert 0.3 < instance.usd_per_hour / instance.gpu_count < 30


@EVERY_INSTANCE
def test_every_row_is_sourced_and_nothing_is_recalled(instance: Instance) -> None:
    assert instance.source
    words = f"{instance.source} {instance.note}".lower()
    assert not [bad for bad in ("recalled", "unverified", "conflict", "may not") if bad in words]
    assert instance.vcpus is None or instance.vcpus >= 2
    assert instance.memory_gb is None or instance.memory_gb >= 8


def test_no_machine_is_listed_twice() -> None:
    count = Counter((each.cloud, each.instance_type) for each in instances.all_instances())
    assert max(count.values()) == 1


def test_the_machines_that_clouds_took_away_are_gone() -> None:
    retired = ("p2.", "g3.", "g3s.", "Standard_NC6s_v3", "Standard_NC12s_v3", "Standard_NC24")
    kept = ("Standard_NC24ads_A100_v4",)
    left = [
        each.instance_type
        for each in instances.all_instances()
        if each.instance_type.startswith(retired) and each.instance_type not in kept
    ]
    assert left == []


def test_shares_of_a_gpu_are_exact() -> None:
    share = {each.instance_type: each.gpu_count for each in instances.all_instances()}
    assert share["Standard_NV6ads_A10_v5"] == Fraction(1, 6)
    assert share["g6f.large"] == Fraction(1, 8)
    assert share["g4dn.12xlarge"] == 4
    assert share["g4dn.16xlarge"] == 1  # the larger name has fewer GPUs


def test_for_gpu_takes_an_exact_count_and_is_sorted_by_price() -> None:
    found = instances.for_gpu("l4")
    assert {each.gpu for each in found} == {"L4"}
    assert {each.gpu_count for each in found} == {1}
    prices = [each.usd_per_hour for each in found if each.usd_per_hour is not None]
    assert prices == sorted(prices)
    assert {each.gpu_count for each in instances.for_gpu("L4", 8)} == {8}
    assert min(each.gpu_count for each in instances.for_gpu("L4", None)) == Fraction(1, 8)


def test_a_family_name_means_all_its_variants() -> None:
    assert {each.gpu for each in instances.for_gpu("A100", 8)} == {
        "A100 40GB SXM4",
        "A100 80GB SXM4",
    }


def test_machines_without_a_price_come_last_and_are_never_cheapest() -> None:
    found = instances.for_gpu("H100 SXM")
    assert found[-1].usd_per_hour is None
    cheapest = instances.cheapest("H100 SXM")
    assert cheapest is not None
    assert cheapest.instance_type == "p5.4xlarge"
    assert instances.cheapest("H100 SXM", cloud="gcp") is None  # Spot only there


def test_cheapest() -> None:
    assert (machine := instances.cheapest("T4"))
    assert machine.usd_per_hour == 0.526
    assert (machine := instances.cheapest("T4", cloud="gcp"))
    assert machine.instance_type == "n1-standard-4+1xnvidia-tesla-t4"
    assert (machine := instances.cheapest("T4", 4))
    assert machine.instance_type == "g4dn.12xlarge"
    assert instances.cheapest("H200") is None  # sold in eights only
    assert instances.cheapest("RTX 4090") is None
    assert instances.cheapest("T4", cloud="nowhere") is None


def test_an_unknown_gpu_is_an_error_and_not_an_empty_answer() -> None:
    with pytest.raises(WrongUsage, match="Did you mean T4"):
        instances.for_gpu("T44")
