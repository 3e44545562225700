"""A resource is one thing of ours at a cloud that costs money, or could."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["machine", "notebook", "disk", "address", "firewall", "key", "spot request"]


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """One resource, as the cloud itself tells of it.

    `run`, `owner` and `deadline` (RFC 3339, UTC) are what its tags say, empty when
    they say nothing. `usd_per_hour` is in US dollars, None when nobody knows it;
    `state` is the cloud's own word, `what` its type or size.
    """

    provider: str
    region: str
    kind: Kind
    id: str
    run: str = ""
    owner: str = ""
    deadline: str = ""
    state: str = ""
    what: str = ""
    usd_per_hour: float | None = 0.0
