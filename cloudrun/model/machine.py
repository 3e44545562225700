"""A machine is one that we have; it costs money until it is terminated."""

from __future__ import annotations

from datetime import datetime

import msgspec

from cloudrun.model.offer import Offer


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine that we have.

    `offer` is frozen at launch, its price with it. `since` is the moment (RFC 3339,
    UTC) from which it costs money, `deadline` the one at which it ends itself.
    `host_key` is the public key that it must show, `key` the file of the private
    one that opens it; `private_ip` says that it is reached by its private address;
    `admits` is the range of addresses (CIDR) that its firewall lets in, None where the
    user named one.
    """

    id: str
    offer: Offer
    deadline: str
    address: str | None = None
    user: str | None = None
    host_key: str | None = None
    key: str | None = None
    private_ip: bool = False
    admits: str | None = None
    since: str | None = None


def usd_between(machine: Machine | None, start: str, end: str) -> float:
    """What a machine cost between two moments (RFC 3339, UTC), in US dollars.

    Nothing before it was there, and nothing after its deadline.
    """
    if machine is None or machine.since is None:
        return 0.0
    start, end = max(start, machine.since), min(end, machine.deadline)
    lived = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return max(0.0, lived.total_seconds()) / 3600 * machine.offer.usd_per_hour
