"""Where a machine hangs: a network, and firewall rules that let in one address and no other."""

from __future__ import annotations

import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cloudrun.errors import AccessDenied, CannotHave, CloudrunError
from cloudrun.providers.gcp import calls, labels
from cloudrun.providers.patience import side_by_side

_RULE_S = 120.0
# Where Google puts the subnets that it makes: https://cloud.google.com/vpc/docs/subnets#ip-ranges
_OF_AUTO_MODE = "10.128.0.0/9"


@dataclass(frozen=True)
class Network:
    """A network and its subnet in the region (None: Google finds it), as URLs; its addresses."""

    link: str
    subnet: str | None = None
    range: str = _OF_AUTO_MODE


def way_out(region: str) -> Network:
    """The network that machines of this region hang on: the default one, else another.

    Raises:
        CannotHave: the project has none there.
    """
    doing = "look at your networks"
    with ThreadPoolExecutor(2) as pool:
        networks = pool.submit(calls.everything, doing, "global/networks")
        subnets = pool.submit(calls.everything, doing, f"regions/{region}/subnetworks")
        try:
            with calls.reading(doing):
                found = list(_usable(networks.result(), subnets.result()))
        except CloudrunError as error:
            refusal = calls.refusal_of(error)
            if refusal is None or refusal.status not in (403, 404):
                raise
            # Who may not look may still use it.
            return Network("global/networks/default")
    if not found:
        raise CannotHave(
            f"There is no network in {region} to put a machine into.",
            "Your project has no network with a subnet there.",
            "Make one: gcloud compute networks create default",
            scope="region",
        )
    return found[0]


def _usable(networks: list[dict[str, Any]], subnets: list[dict[str, Any]]) -> Iterator[Network]:
    """Networks with a subnet in the region, or that make one there; the default one first."""
    for network in sorted(networks, key=lambda row: (row["name"] != "default", row["name"])):
        for subnet in subnets:
            if calls.last(subnet.get("network")) == network["name"]:
                yield Network(
                    network["selfLink"],
                    subnet["selfLink"],
                    str(subnet.get("ipCidrRange") or _OF_AUTO_MODE),
                )
        if network.get("autoCreateSubnetworks"):
            yield Network(network["selfLink"])


def tag(run_id: str, region: str) -> str:
    """The network tag of a run's machines in a region; its rules' names begin so."""
    return f"cloudrun-{run_id}-{region}"


def admit(network: Network, run_id: str, region: str, deadline: str, who: str) -> None:
    """Let a range of addresses reach port 22 of the run's machines there, and nobody else.

    The default network's own rule lets the whole world in there, so that takes a second
    rule: https://cloud.google.com/firewall/docs/firewalls#more_rules_default_vpc

    Asked again, nothing happens.
    """
    said = labels.description(run_id, deadline, region)
    rules = [_let_in(network.link, tag(run_id, region), said, who)]
    if _is_open(network):
        rules.append(_keep_out(network.link, tag(run_id, region), said))
    for answer in side_by_side(_make, rules):
        if answer is not None:
            raise answer


def admit_also(instance: dict[str, Any], region: str, who: str) -> None:
    """Let another range reach port 22 of a machine that is there."""
    said = labels.read(instance.get("labels") or {})
    with calls.reading("let you in"):
        link, mine = instance["networkInterfaces"][0]["network"], tag(said["run"], region)
        about = labels.description(said["run"], said["deadline"], region)
    _make(_let_in(link, mine, about, who))


def _let_in(network: str, mine: str, said: str, who: str) -> dict[str, Any]:
    return {
        # Who comes from elsewhere later needs a rule of another name.
        "name": f"{mine}-let-in-{zlib.crc32(who.encode()):08x}",
        "description": said,
        "network": network,
        "direction": "INGRESS",
        "priority": 0,
        "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
        "sourceRanges": [who],
        "targetTags": [mine],
    }


def _keep_out(network: str, mine: str, said: str) -> dict[str, Any]:
    return {
        "name": f"{mine}-keep-out",
        "description": said,
        "network": network,
        "direction": "INGRESS",
        "priority": 1,
        "denied": [{"IPProtocol": "all"}],
        "sourceRanges": ["0.0.0.0/0"],
        "targetTags": [mine],
    }


def _is_open(network: Network) -> bool:
    """Whether some rule of the network lets others reach any machine of it."""
    try:
        rules = calls.everything("look at your firewall rules", "global/firewalls")
    except AccessDenied:
        return True
    return any(
        calls.last(rule.get("network")) == calls.last(network.link)
        and rule.get("direction", "INGRESS") == "INGRESS"
        and rule.get("allowed")
        and not (rule.get("targetTags") or rule.get("targetServiceAccounts"))
        and not rule.get("disabled")
        for rule in rules
    )


def _make(rule: dict[str, Any]) -> None:
    doing = "make a firewall rule"
    request = str(uuid.uuid5(uuid.NAMESPACE_URL, rule["name"]))
    with calls.allowing(409):
        operation = calls.insist(doing, "POST", "global/firewalls", body=rule, requestId=request)
        calls.finish(doing, operation, "global", _RULE_S)
