from __future__ import annotations

import pytest

from cloudrun.errors import Unavailable
from cloudrun.launcher.planner import deadline_s, make_plan, next_attempt
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
    assert plan.usd == pytest.approx(plan.seconds / 3600 * 0.5)


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


def test_the_next_attempt_is_the_best_that_is_not_blocked() -> None:
    plan = make_plan(Need(), [CHEAP, DEAR])
    assert next_attempt(plan, []) == CHEAP
    assert next_attempt(plan, [CHEAP]) == DEAR
    assert next_attempt(plan, [CHEAP, DEAR]) is None
