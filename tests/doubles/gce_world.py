"""What the simulated Compute Engine has from the start: zones, machine types, images, a network."""

from __future__ import annotations

import re
from typing import Any

from cloudrun.catalog.instances import all_instances

PROJECT = "cloudrun-test"
IMAGES = "deeplearning-platform-release"
BASE = "https://www.googleapis.com/compute/v1"
ZONES = {
    "us-central1": "abcf",
    "us-east1": "bcd",
    "europe-west4": "abc",
}
ACCELERATORS = ("nvidia-tesla-t4", "nvidia-tesla-p4", "nvidia-tesla-p100", "nvidia-tesla-v100")
_FAMILIES = (
    ("pytorch-2-9-cu129-ubuntu-2404-nvidia-580", "20260909", False),
    ("pytorch-2-9-cu129-ubuntu-2404-nvidia-580", "20260801", False),
    ("pytorch-2-9-cu129-ubuntu-2204-nvidia-580", "20260909", False),
    ("common-cu129-ubuntu-2404-nvidia-580", "20260909", False),
    ("pytorch-2-7-cu128-ubuntu-2204-nvidia-570", "20260301", True),
    ("tf-2-17-cu123-debian-11", "20250301", True),
)
_QUOTAS = {"NVIDIA_T4_GPUS": 4.0, "NVIDIA_L4_GPUS": 1.0, "PREEMPTIBLE_NVIDIA_T4_GPUS": 0.0}

Key = tuple[str, str, str]


def furnish(resources: dict[Key, dict[str, Any]]) -> None:
    """Put all of it in."""
    types = {
        each.instance_type.partition("+")[0] for each in all_instances() if each.cloud == "gcp"
    }
    for region, letters in ZONES.items():
        resources["regions", "", region] = _region(region)
        resources["subnetworks", region, "default"] = {
            "name": "default",
            "network": link("global/networks/default"),
            "selfLink": link(f"regions/{region}/subnetworks/default"),
            "ipCidrRange": "10.128.0.0/20",
        }
        for letter in letters:
            zone = f"{region}-{letter}"
            for name in types:
                resources["machineTypes", zone, name] = {"name": name, "zone": zone}
            for name in ACCELERATORS:
                resources["acceleratorTypes", zone, name] = {
                    "name": name,
                    "zone": link(f"zones/{zone}"),
                }
    resources["networks", "", "default"] = {
        "name": "default",
        "autoCreateSubnetworks": True,
        "selfLink": link("global/networks/default"),
    }
    # https://cloud.google.com/firewall/docs/firewalls#more_rules_default_vpc
    resources["firewalls", "", "default-allow-ssh"] = {
        "name": "default-allow-ssh",
        "network": link("global/networks/default"),
        "direction": "INGRESS",
        "priority": 65534,
        "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}],
        "sourceRanges": ["0.0.0.0/0"],
    }
    for family, day, old in _FAMILIES:
        add_image(resources, family, day, old)


def add_image(
    resources: dict[Key, dict[str, Any]], family: str, day: str, old: bool = False
) -> None:
    """An image of Google's for deep learning."""
    name = f"{family}-v{day}"
    found = {
        "_project": IMAGES,
        "name": name,
        "family": family,
        "creationTimestamp": f"{day[:4]}-{day[4:6]}-{day[6:]}T00:00:00.000-07:00",
        "diskSizeGb": "50",
        "selfLink": f"{BASE}/projects/{IMAGES}/global/images/{name}",
        "guestOsFeatures": [{"type": "UEFI_COMPATIBLE"}, {"type": "GVNIC"}],
    }
    if old:
        found["deprecated"] = {"state": "DEPRECATED"}
    resources["images", "", name] = found


def _region(name: str) -> dict[str, Any]:
    quotas = [{"metric": m, "limit": limit, "usage": 0.0} for m, limit in _QUOTAS.items()]
    zones = [link(f"zones/{name}-{letter}") for letter in ZONES[name]]
    return {"name": name, "status": "UP", "zones": zones, "quotas": quotas}


def project() -> dict[str, Any]:
    """https://cloud.google.com/compute/docs/reference/rest/v1/projects"""
    quotas = [{"metric": "GPUS_ALL_REGIONS", "limit": 4.0, "usage": 0.0}]
    return {"name": PROJECT, "quotas": quotas}


def link(path: str) -> str:
    """The full URL of something of the project's."""
    return f"{BASE}/projects/{PROJECT}/{path}"


def region_of(place: str) -> str:
    """The region of a zone; of a region, itself."""
    return place.rpartition("-")[0] if re.fullmatch(r".*-[a-z]", place) else place


def matches(expression: str, resource: dict[str, Any]) -> bool:
    """Whether a resource fits a filter: `labels.a=b`, `labels.a:*`, joined by AND or by OR.

    https://cloud.google.com/compute/docs/reference/rest/v1/instances/aggregatedList

    Raises:
        AssertionError: this double does not know such a filter.
    """
    if not expression:
        return True
    for word, join in ((" OR ", any), (" AND ", all)):
        if word in expression:
            return join(matches(term.strip("() "), resource) for term in expression.split(word))
    term = re.fullmatch(r"([\w.-]+)\s*(=|:)\s*\"?([^\"()\s]+)\"?", expression.strip("() "))
    assert term, f"this double knows no filter {expression}"
    value: Any = resource
    path, _, label = term[1].partition("labels.")
    for name in [*filter(None, path.split(".")), *(["labels", label] if label else [])]:
        value = value.get(name) if isinstance(value, dict) else None
    if (term[2], term[3]) == (":", "*"):
        return value is not None
    return str(value) == term[3]
