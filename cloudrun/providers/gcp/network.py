"""Where a machine hangs: a network, and firewall rules that let in one address and no other."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cloudrun.errors import AccessDenied, CannotHave
from cloudrun.providers.gcp import calls, labels
from cloudrun.providers.patience import side_by_side

_RULE_S = 120.0
_LET_IN, _KEEP_OUT = "let-in", "keep-out"


@dataclass(frozen=True)
class Network:
    """A network and its subnet in the region (None: Google finds it), as URLs; its addresses."""

    link: str
    subnet: str | None = None
    range: str = ""


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
            found = _usable(networks.result(), subnets.result())
        except AccessDenied as error:
            refusal = calls.refusal_of(error)
            if refusal is None or refusal.status != 403:
                raise
            # Who may not look may still use it.
            return Network("global/networks/default")
    best = next(found, None)
    if best is None:
        raise CannotHave(
            f"There is no network in {region} to put a machine into.",
            "Your project has no network with a subnet there.",
            "Make one: gcloud compute networks create default",
            scope="region",
        )
    return best


def _usable(networks: list[dict[str, Any]], subnets: list[dict[str, Any]]) -> Iterator[Network]:
    """Networks with a subnet in the region, the default one first."""
    for network in sorted(networks, key=lambda row: (row["name"] != "default", row["name"])):
        for subnet in subnets:
            if calls.last(subnet.get("network")) == network["name"]:
                yield Network(
                    network["selfLink"], subnet["selfLink"], str(subnet.get("ipCidrRange") or "")
                )


def tag(run_id: str, region: str) -> str:
    """The network tag of a run's machines in a region; its rules' names begin so."""
    return f"cloudrun-{run_id}-{region}"


def admit(network: Network, run_id: str, region: str, deadline: str, who: str) -> None:
    """Let a range of addresses reach port 22 of the run's machines there, and nobody else.

    The default network's own rule lets the whole world in there, so that takes a second
    rule: https://cloud.google.com/firewall/docs/firewalls#more_rules_default_vpc

    Asked again, nothing happens.
    """
    mine = tag(run_id, region)
    common = {
        "network": network.link,
        "direction": "INGRESS",
        "targetTags": [mine],
        "description": labels.description(run_id, deadline, region),
    }
    rules = [{
        **common,
        "name": f"{mine}-{_LET_IN}",
        "priority": 0,
        "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
        "sourceRanges": [who],
    }]  # fmt: skip
    if _is_open(network):
        rules.append({
            **common,
            "name": f"{mine}-{_KEEP_OUT}",
            "priority": 1,
            "denied": [{"IPProtocol": "all"}],
            "sourceRanges": ["0.0.0.0/0"],
        })  # fmt: skip
    for answer in side_by_side(_make, rules):
        if answer is not None:
            raise answer


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
