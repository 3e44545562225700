"""From a need and what can be had to a plan. Pure: no clock, no network, no disk."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from cloudrun.errors import Unavailable
from cloudrun.model.need import Need, provider_of
from cloudrun.model.offer import Offer, PhaseForecast, Plan
from cloudrun.model.run import PHASES
from cloudrun.model.words import format_usd

# Seconds that each phase takes on this machine, measured on two CPU cores
# (docs/performance.md); those for GPUs are estimates, from the budgets of the
# profiles. A cloud's own waits come with its provider.
_LOCAL_S = {"plan": 0.1, "provision": 0.0, "connect": 0.0, "prepare": 0.1, "push": 0.0}
# Of a machine that is rented; the machine itself takes what its offer says.
_CLOUD_S = {"plan": 1.5, "provision": 5.0, "prepare": 5.0, "push": 0.5}
_AFTER_S = {"collect": 0.1, "end": 0.1}
# Before a machine ends itself, its job is stopped and what it made comes home.
_LAST_S = 30
_LITTLE_S = 60
_SMOKE_S = 15.0
_BENCH_S = {
    "cpu": {"quick": 25.0, "standard": 90.0, "full": 400.0},
    "cuda": {"quick": 50.0, "standard": 295.0, "full": 1240.0},
    "mps": {"quick": 47.0, "standard": 282.0, "full": 1182.0},
    "auto": {"quick": 50.0, "standard": 295.0, "full": 1240.0},
}


def make_plan(need: Need, offers: Sequence[Offer]) -> Plan:
    """Order the offers and say what the first of them will take and cost.

    Raises:
        Unavailable: no offer fits the need.
    """
    cheap = [offer for offer in offers if _within_price(need, offer)]
    if not cheap:
        raise _nothing_fits(need, offers)
    fitting = tuple(offer for offer in cheap if _lasts(need, offer))
    if not fitting:
        raise _too_little(need, cheap)
    best = fitting[0]
    return Plan(
        need=need,
        offers=fitting,
        forecast=tuple(
            PhaseForecast(phase, seconds, _paid_s(phase, seconds) / 3600 * best.usd_per_hour)
            for phase, seconds in _seconds(need, best).items()
        ),
        deadline_s=deadline_s(need, best),
    )


@dataclass(frozen=True)
class Block:
    """An offer that was refused; `scope` and `elsewhere` are as in `errors.CannotHave`."""

    offer: Offer
    scope: Literal["zone", "region", "cloud"]
    elsewhere: tuple[str, ...] = ()

    def stops(self, other: Offer) -> bool:
        """Whether the reason holds for another offer too."""
        refused = self.offer
        if self.scope == "cloud":
            return refused.provider == other.provider
        here = (refused.provider, refused.region, refused.spot)
        if here != (other.provider, other.region, other.spot):
            return False
        return self.scope == "region" or _machine_of(refused) == _machine_of(other)


def _machine_of(offer: Offer) -> tuple[str | None, ...]:
    return offer.zone, offer.instance_type, offer.address


def next_attempt(plan: Plan, blocked: Collection[Block]) -> Offer | None:
    """The best offer that no block stops; None when all are stopped.

    Of equal ones, one in a zone of which the cloud says that it has some.
    """
    left = [o for o in plan.offers if not any(block.stops(o) for block in blocked)]
    named = {(b.offer.provider, zone) for b in blocked for zone in b.elsewhere}
    equal = [o for o in left if _is_as_good(o, left[0])]
    return next((o for o in equal if (o.provider, o.zone) in named), next(iter(left), None))


def _is_as_good(offer: Offer, best: Offer) -> bool:
    same = (best.provider, best.instance_type, best.usd_per_hour)
    return (offer.provider, offer.instance_type, offer.usd_per_hour) == same


def in_order(offers: Sequence[Offer]) -> list[Offer]:
    """The offers in the order to try them.

    Targets are tried in their order, but of several clouds next to each other the cheapest
    offer comes first, whoever makes it. What one provider says is its best stays so.
    """
    ordered: list[Offer] = []
    for is_paid, group in itertools.groupby(offers, key=lambda offer: offer.usd_per_hour > 0):
        those = list(group)
        if is_paid and len({offer.provider for offer in those}) > 1:
            those.sort(key=lambda offer: offer.usd_per_hour)
        ordered += those
    return ordered


def deadline_s(need: Need, offer: Offer) -> int:
    """Seconds after which the run must be over: the time to live, or what the money lasts for."""
    seconds = min(need.ttl_s, offer.longest_s or need.ttl_s)
    if need.max_cost_usd is None or offer.usd_per_hour == 0:
        return seconds
    return min(seconds, _paid_for_s(need.max_cost_usd, offer))


def lives_s(need: Need, offer: Offer) -> int:
    """Seconds after which the machine ends itself: longer than the run, where it may be kept."""
    longest = deadline_s(need, offer) + need.keep_failed_s
    if need.max_cost_usd is None or offer.usd_per_hour == 0:
        return longest
    return min(longest, _paid_for_s(need.max_cost_usd, offer))


def job_s(need: Need, offer: Offer) -> int:
    """Seconds after which the job is stopped: before its machine ends itself, to save its results.

    Of machines that do not end themselves it is the whole time.
    """
    seconds = deadline_s(need, offer)
    return seconds - min(_LAST_S, seconds // 10) if offer.boot_s else seconds


def most_usd(plan: Plan) -> float:
    """The most that the run can cost, whichever offer is had, in US dollars."""
    return max(lives_s(plan.need, o) / 3600 * o.usd_per_hour for o in plan.offers)


def _lasts(need: Need, offer: Offer) -> bool:
    """Whether the money lasts until the machine has booted and done a little."""
    if need.max_cost_usd is None or offer.usd_per_hour == 0:
        return True
    return _paid_for_s(need.max_cost_usd, offer) >= offer.boot_s + _LITTLE_S


def _too_little(need: Need, offers: Sequence[Offer]) -> Unavailable:
    needed = min((o.boot_s + _LITTLE_S) / 3600 * o.usd_per_hour for o in offers)
    return Unavailable(
        f"${need.max_cost_usd:g} does not pay for a machine until it has booted.",
        f"The cheapest takes about {format_usd(needed)} for its boot and a minute of work.",
        "Raise --max-cost.",
    )


def _paid_for_s(usd: float, offer: Offer) -> int:
    return int(usd / offer.usd_per_hour * 3600)


def _paid_s(phase: str, seconds: float) -> float:
    """How much of a phase is paid for: there is no machine before it is created."""
    return 0.0 if phase == "plan" else seconds


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
    if offer.boot_s:
        seconds |= {**_CLOUD_S, "connect": max(0.0, offer.boot_s - _CLOUD_S["provision"])}
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
    if need.gpu and not any(provider_of(target) == "local" for target in need.targets):
        return Unavailable(
            f"There is no {need.gpu} to be had from {', '.join(need.targets)}.",
            "",
            f"What there is of it, and where: cloudrun gpus {need.gpu.name}",
        )
    return Unavailable(
        f"This machine does not have {wanted}.",
        "",
        "Leave --gpu out to measure this machine as it is. Where it can be rented: "
        f"cloudrun gpus {need.gpu.name if need.gpu else ''}".rstrip(),
    )
