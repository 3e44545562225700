"""From a need and what can be had to a plan. Pure: no clock, no network, no disk."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cloudrun.errors import Unavailable
from cloudrun.model.need import Need
from cloudrun.model.offer import Offer, PhaseForecast, Plan
from cloudrun.model.run import PHASES

# Seconds that each phase takes on this machine, measured on two CPU cores
# (docs/performance.md); those for GPUs are estimates, from the budgets of the
# profiles. A cloud's own waits come with its provider.
_LOCAL_S = {"plan": 0.1, "provision": 0.0, "connect": 0.0, "prepare": 0.1, "push": 0.0}
_AFTER_S = {"collect": 0.1, "end": 0.1}
_SMOKE_S = 15.0
_BENCH_S = {
    "cpu": {"quick": 25.0, "standard": 90.0, "full": 400.0},
    "cuda": {"quick": 45.0, "standard": 280.0, "full": 1180.0},
    "mps": {"quick": 45.0, "standard": 280.0, "full": 1180.0},
    "auto": {"quick": 45.0, "standard": 280.0, "full": 1180.0},
}


def make_plan(need: Need, offers: Sequence[Offer]) -> Plan:
    """Order the offers and say what the first of them will take and cost.

    Raises:
        Unavailable: no offer fits the need.
    """
    fitting = tuple(offer for offer in offers if _within_price(need, offer))
    if not fitting:
        raise _nothing_fits(need, offers)
    best = fitting[0]
    return Plan(
        need=need,
        offers=fitting,
        forecast=tuple(
            PhaseForecast(phase, seconds, seconds / 3600 * best.usd_per_hour)
            for phase, seconds in _seconds(need, best).items()
        ),
        deadline_s=deadline_s(need, best),
    )


def next_attempt(plan: Plan, blocked: Collection[Offer]) -> Offer | None:
    """The best offer that is not blocked; None when all are."""
    return next((offer for offer in plan.offers if offer not in blocked), None)


def deadline_s(need: Need, offer: Offer) -> int:
    """Seconds after which the run must be over: the time to live, or what the money lasts for."""
    if need.max_cost_usd is None or offer.usd_per_hour == 0:
        return need.ttl_s
    return min(need.ttl_s, int(need.max_cost_usd / offer.usd_per_hour * 3600))


def _within_price(need: Need, offer: Offer) -> bool:
    return need.max_price_usd is None or offer.usd_per_hour <= need.max_price_usd


def _seconds(need: Need, offer: Offer) -> dict[str, float]:
    # How long a command takes nobody knows; its deadline is the most that it can.
    work = float(deadline_s(need, offer)) if need.command is not None else 0.0
    if "smoke" in need.workloads:
        work += _SMOKE_S
    if "bench" in need.workloads:
        work += _BENCH_S[offer.device][need.profile]
    seconds = {**_LOCAL_S, "run": work, **_AFTER_S}
    return {phase: seconds[phase] for phase in PHASES}


def _nothing_fits(need: Need, offers: Sequence[Offer]) -> Unavailable:
    if offers:
        cheapest = min(offer.usd_per_hour for offer in offers)
        return Unavailable(
            f"No offer costs at most ${need.max_price_usd:g} an hour.",
            f"The cheapest costs ${cheapest:.2f}.",
            "Raise --max-price, or choose another GPU.",
        )
    wanted = f"a {need.gpu}" if need.gpu else "a device"
    return Unavailable(
        f"This machine does not have {wanted}.",
        "",
        "Leave --gpu out to measure this machine as it is. Where it can be rented: "
        f"cloudrun gpus {need.gpu.name if need.gpu else ''}".rstrip(),
    )
