from __future__ import annotations

import msgspec
import pytest

from cloudrun.errors import Unavailable
from cloudrun.launcher.planner import (
    Block,
    deadline_s,
    in_order,
    job_s,
    lives_s,
    make_plan,
    next_attempt,
)
from cloudrun.model.need import GpuRequest, Need
from cloudrun.model.offer import Offer
from cloudrun.model.run import PHASES

FREE = Offer(provider="local", device="cpu")
CHEAP = Offer(provider="aws", device="cuda", gpu="T4", usd_per_hour=0.5)
DEAR = Offer(provider="aws", device="cuda", gpu="A100", usd_per_hour=4.0)


def test_a_plan_forecasts_every_phase_in_order_and_adds_them_up() -> None:
    plan = make_plan(Need(), [CHEAP])
    assert tuple(row.phase for row in plan.forecast) == PHASES
    assert plan.seconds == pytest.approx(sum(row.seconds for row in plan.forecast))
    # Before the machine is created nothing is paid.
    paid = plan.seconds - plan.forecast[0].seconds
    assert plan.usd == pytest.approx(paid / 3600 * 0.5)


def test_the_work_asked_for_decides_the_forecast() -> None:
    smoke, whole = (make_plan(Need(workload=kind), [FREE]).seconds for kind in ("smoke", "all"))
    full = make_plan(Need(profile="full"), [FREE]).seconds
    assert smoke < whole < full
    assert make_plan(Need(), [FREE]).usd == 0


def test_offers_above_the_ceiling_are_left_out() -> None:
    plan = make_plan(Need(max_price_usd=1.0), [DEAR, CHEAP])
    assert plan.offers == (CHEAP,)
    with pytest.raises(Unavailable, match=r"at most \$0.1 an hour.*cheapest costs \$0.50"):
        make_plan(Need(max_price_usd=0.1), [DEAR, CHEAP])


def test_no_offer_names_what_was_wanted() -> None:
    with pytest.raises(Unavailable, match="does not have a T4.*cloudrun gpus T4"):
        make_plan(Need(gpu=GpuRequest("T4")), [])


@pytest.mark.parametrize(
    ("offer", "max_cost", "seconds"),
    [
        (FREE, None, 1800),
        (CHEAP, None, 1800),
        (CHEAP, 0.1, 720),
        (CHEAP, 50.0, 1800),
        (FREE, 0.1, 1800),
    ],
)
def test_money_becomes_a_deadline(offer: Offer, max_cost: float | None, seconds: int) -> None:
    assert deadline_s(Need(max_cost_usd=max_cost), offer) == seconds


def offer(zone: str, instance_type: str = "g4dn.xlarge", spot: bool = False) -> Offer:
    return Offer(
        provider="aws",
        device="cuda",
        region=zone[:-1],
        zone=zone,
        instance_type=instance_type,
        spot=spot,
        usd_per_hour=0.5,
        boot_s=60.0,
    )


EAST_A, EAST_B = offer("us-east-1a"), offer("us-east-1b")
EAST_A_LARGE, WEST = offer("us-east-1a", "g4dn.2xlarge"), offer("us-west-2a")


@pytest.mark.parametrize(
    ("blocked", "then"),
    [
        ([], EAST_A),
        ([Block(EAST_A, "zone")], EAST_B),
        # Another type in the same zone may be there.
        ([Block(EAST_A, "zone"), Block(EAST_B, "zone")], EAST_A_LARGE),
        ([Block(EAST_A, "region")], WEST),
        ([Block(EAST_A, "zone"), Block(EAST_B, "region")], WEST),
        ([Block(EAST_A, "region"), Block(WEST, "zone")], None),
        # A quota for spot machines is not the one for those on demand.
        ([Block(offer("us-east-1a", spot=True), "region")], EAST_A),
    ],
)
def test_failover(blocked: list[Block], then: Offer | None) -> None:
    plan = make_plan(Need(), [EAST_A, EAST_B, EAST_A_LARGE, WEST])
    assert next_attempt(plan, blocked) == then


@pytest.mark.parametrize(
    ("need", "offer", "job", "machine"),
    [
        # The job is stopped before its machine ends itself, so that its results come home.
        (Need(ttl_s=1800), EAST_A, 1770, 1800),
        (Need(ttl_s=100), EAST_A, 90, 100),
        # A machine that does not end itself.
        (Need(ttl_s=1800), FREE, 1800, 1800),
        # Kept after a failure, but not beyond what it may cost.
        (Need(ttl_s=1800, keep_failed_s=600), EAST_A, 1770, 2400),
        (Need(ttl_s=1800, keep_failed_s=3600, max_cost_usd=0.5), EAST_A, 1770, 3600),
        (Need(ttl_s=1800, max_cost_usd=0.1), EAST_A, 690, 720),
    ],
)
def test_deadlines(need: Need, offer: Offer, job: int, machine: int) -> None:
    assert (job_s(need, offer), lives_s(need, offer)) == (job, machine)


def gcp(zone: str, usd: float = 0.54) -> Offer:
    return msgspec.structs.replace(offer(zone), provider="gcp", region=zone[:-2], usd_per_hour=usd)


def test_a_whole_cloud_can_be_blocked_and_no_other_with_it() -> None:
    block = Block(gcp("us-central1-a"), "cloud")
    assert block.stops(gcp("europe-west4-b"))
    assert not block.stops(EAST_A)


def test_of_equal_offers_the_zone_that_the_cloud_names_is_next() -> None:
    a, b, f = gcp("us-central1-a"), gcp("us-central1-b"), gcp("us-central1-f")
    dear = gcp("us-central1-c", usd=0.73)
    plan = make_plan(Need(), [a, b, f, dear])
    assert next_attempt(plan, [Block(a, "zone", ("us-central1-f",))]) == f
    # To have it for more money is no reason to skip what is cheaper.
    assert next_attempt(plan, [Block(a, "zone", ("us-central1-c",))]) == b
    assert next_attempt(plan, [Block(a, "zone")]) == b


def test_of_several_clouds_the_cheapest_comes_first_and_targets_keep_their_order() -> None:
    cheap, dear = gcp("us-central1-a", usd=0.4), gcp("us-central1-b", usd=0.9)
    assert in_order([EAST_A, EAST_B, cheap, dear]) == [cheap, EAST_A, EAST_B, dear]
    # What is free was named first.
    assert in_order([FREE, EAST_A, cheap]) == [FREE, cheap, EAST_A]
    assert in_order([EAST_A, FREE, cheap]) == [EAST_A, FREE, cheap]
    # One provider knows best what is best.
    assert in_order([DEAR, CHEAP]) == [DEAR, CHEAP]
