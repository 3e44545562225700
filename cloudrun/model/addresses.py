"""Ranges of addresses: who may reach a machine."""

from __future__ import annotations

import ipaddress

from cloudrun.errors import WrongUsage

# A 256th of all addresses.
_SHORTEST_PREFIX = 8


def checked_range(text: str) -> str:
    """Read a range of IPv4 addresses, such as `203.0.113.7/32` or `203.0.113.7`.

    Raises:
        WrongUsage: it is none, or holds more than a 256th of all addresses.
    """
    try:
        found = ipaddress.IPv4Network(text.strip(), strict=False)
    except ValueError as error:
        raise WrongUsage(
            f"'{text}' is not a range of IPv4 addresses.", f"{error}.", "Write: 203.0.113.7/32"
        ) from error
    if found.prefixlen < _SHORTEST_PREFIX:
        raise WrongUsage(
            f"'{text}' would open the machine to the world.",
            "",
            "Name your own address (203.0.113.7/32) or your network (203.0.113.0/24).",
        )
    return str(found)
