"""Who may reach a machine: the address that this machine has on the way there, or what is said."""

from __future__ import annotations

import ipaddress
import socket
import urllib.request

from cloudrun.errors import Unavailable
from cloudrun.model.addresses import checked_range

# AWS's own answer to "from which address do I come?"; it needs no account.
_WHO_AM_I = "https://checkip.amazonaws.com"


def caller(ssh_from: str | None, network: str | None) -> str:
    """Who may reach the machine's port 22, as a range of addresses (CIDR).

    Args:
        ssh_from: What the user says.
        network: The machine's network (CIDR), when it is reached by its private address; then
            it is our address on the way there. Otherwise it is the one that the Internet sees.

    Raises:
        WrongUsage: the user's range makes no sense, or is half the world.
        Unavailable: our address cannot be found out.
    """
    if ssh_from is not None:
        return checked_range(ssh_from)
    if network is not None:
        return f"{_address_towards(network)}/32"
    try:
        with urllib.request.urlopen(_WHO_AM_I, timeout=5) as answer:
            return f"{ipaddress.IPv4Address(answer.read(100).decode().strip())}/32"
    except (OSError, ValueError) as error:
        raise Unavailable(
            "Your own address on the Internet could not be found out.",
            f"{_WHO_AM_I} says: {error}. Only this address may reach the machine.",
            "Say who may: --ssh-from ADDRESS/32",
        ) from error


def _address_towards(network: str) -> str:
    """Our address on the way to a network; no packet is sent for that."""
    there = ipaddress.IPv4Network(network).network_address + 1
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect((str(there), 22))
            return str(way.getsockname()[0])
    except OSError as error:
        raise Unavailable(
            f"There is no way from here to the machine's network {network}.",
            f"{error.strerror}.",
            "Start your VPN, or leave --private-ip out.",
        ) from error
