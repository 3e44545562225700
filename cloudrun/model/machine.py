"""A machine is one that we have; it costs money until it is terminated."""

from __future__ import annotations

import msgspec

from cloudrun.model.offer import Offer


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine that we have.

    `offer` is frozen at launch, its price with it. `deadline` is the moment
    (RFC 3339, UTC) after which the machine ends itself.
    """

    id: str
    offer: Offer
    deadline: str
    address: str | None = None
    user: str | None = None
    host_key: str | None = None
