"""What can be had at Google: asked of a simulated one, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from cloudrun.errors import AccessDenied, HostUnreachable, Unavailable
from cloudrun.model.need import GpuRequest, Need
from cloudrun.providers import gcp
from cloudrun.providers.gcp.offers import Type, read_type
from tests.doubles.gce import Cloud
from tests.doubles.gce_faults import Fault


def need(*targets: str, gpu: str = "T4", count: int = 1, **more: Any) -> Need:
    return Need(targets=targets or ("gcp",), gpu=GpuRequest(gpu, count), **more)


def test_the_cheapest_comes_first_with_its_dated_price(paper: Cloud) -> None:
    offers = gcp.offers(need())
    first = offers[0]
    assert first.instance_type == "n1-standard-4+1xnvidia-tesla-t4"
    assert (first.usd_per_hour, first.price_as_of, first.price_note) == (0.54, "2026-08-03", "")
    assert (first.gpu, first.gpu_count, first.device) == ("T4", 1, "cuda")
    assert (first.region, first.zone) == ("us-central1", "us-central1-a")
    assert [o.usd_per_hour for o in offers] == sorted(o.usd_per_hour for o in offers)
    assert {o.region for o in offers} == {"us-central1", "us-east1", "europe-west4"}
    there = next(o for o in offers if o.region == "us-east1")
    assert there.price_note == "the price of us-central1"


def test_of_equal_prices_the_users_own_region_comes_first(
    paper: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDSDK_COMPUTE_REGION", "europe-west4")
    assert gcp.offers(need())[0].region == "europe-west4"


def test_a_zone_needs_the_machine_and_the_gpu_to_attach(paper: Cloud) -> None:
    del paper.resources["acceleratorTypes", "us-central1-a", "nvidia-tesla-t4"]
    del paper.resources["machineTypes", "us-central1-b", "n1-standard-4"]
    small = [o for o in gcp.offers(need("gcp/us-central1")) if "standard-4" in o.instance_type]
    assert [o.zone for o in small] == ["us-central1-c", "us-central1-f"]


def test_pages_are_followed(paper: Cloud) -> None:
    everything = gcp.offers(need())
    paper.page = 3
    assert gcp.offers(need()) == everything


def test_a_place_that_is_named_is_kept_to(paper: Cloud) -> None:
    assert {o.region for o in gcp.offers(need("gcp/us-east1"))} == {"us-east1"}
    assert {o.zone for o in gcp.offers(need("gcp/us-east1/us-east1-c"))} == {"us-east1-c"}
    with pytest.raises(Unavailable, match=r"does not offer .* in mars-north1"):
        gcp.offers(need("gcp/mars-north1"))


@pytest.mark.parametrize(
    ("gpu", "count", "kind"),
    [
        ("V100", 1, "n1-standard-4+1xnvidia-tesla-v100"),
        ("P4", 1, "n1-standard-4+1xnvidia-tesla-p4"),
        ("P100", 1, "n1-standard-4+1xnvidia-tesla-p100"),
        ("L4", 4, "g2-standard-48"),
        ("A100-40GB", 1, "a2-highgpu-1g"),
        ("A100-80GB", 8, "a2-ultragpu-8g"),
        ("H100", 8, "a3-highgpu-8g"),
    ],
)
def test_every_family(paper: Cloud, gpu: str, count: int, kind: str) -> None:
    assert gcp.offers(need("gcp/us-central1", gpu=gpu, count=count))[0].instance_type == kind


def test_what_has_no_price_is_not_offered(paper: Cloud) -> None:
    with pytest.raises(Unavailable, match="no price"):
        gcp.offers(need(gpu="B200", count=8))
    # It hangs on Arm, for which no torch computes on it.
    with pytest.raises(Unavailable, match="rents none"):
        gcp.offers(need(gpu="GB200", count=4))
    with pytest.raises(Unavailable, match=r"no machine with 3 x L4.*some with 1, 2, 4, 8"):
        gcp.offers(need(gpu="L4", count=3))


def test_any_gpu_is_the_cheapest_and_a_type_can_be_named(paper: Cloud) -> None:
    assert gcp.offers(Need(targets=("gcp",)))[0].gpu == "T4"
    named = Need(targets=("gcp/us-east1",), instance_type="g2-standard-8")
    assert {o.instance_type for o in gcp.offers(named)} == {"g2-standard-8"}


def test_a_spot_machine_costs_at_most_what_one_on_demand_does(paper: Cloud) -> None:
    offer = gcp.offers(need("gcp/us-east1", spot=True))[0]
    assert (offer.spot, offer.usd_per_hour) == (True, 0.54)
    assert offer.price_note.startswith("at most")
    assert offer.price_note.endswith("the price of us-central1")


def test_a_zone_that_does_not_answer_is_told(paper: Cloud) -> None:
    paper.unreachable.add("us-east1-c")
    told: list[str] = []
    assert "us-east1-c" not in {o.zone for o in gcp.offers(need(), told.append)}
    assert [sentence.partition(":")[0] for sentence in told] == [
        "Google does not say what it has in us-east1-c"
    ]


def test_types_are_read() -> None:
    assert read_type("g2-standard-4") == Type("g2-standard-4")
    attached = read_type("n1-standard-8+2xnvidia-tesla-v100")
    assert attached == Type("n1-standard-8", "nvidia-tesla-v100", 2)


@pytest.mark.parametrize("code", ["authError", "forbidden", "billingNotEnabled"])
def test_no_credentials_are_no_lack_of_offers(paper: Cloud, code: str) -> None:
    paper.faults.append(Fault("machineTypes.aggregatedList", code))
    with pytest.raises(AccessDenied):
        gcp.offers(need())


@pytest.mark.usefixtures("impatient")
def test_when_nothing_answers_that_is_told(paper: Cloud) -> None:
    paper.faults.append(Fault("*", how="html"))
    with pytest.raises(HostUnreachable, match="no answer that makes sense"):
        gcp.offers(need())
