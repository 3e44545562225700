"""Can Google Cloud be used? Credentials, project, API, billing, permissions by name, quotas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from cloudrun.errors import CloudrunError
from cloudrun.providers.base import Finding, unusable
from cloudrun.providers.gcp import account, calls

_EVERYWHERE = "GPUS_ALL_REGIONS"
_NEEDED = (
    "compute.acceleratorTypes.list",
    "compute.addresses.list",
    "compute.disks.create",
    "compute.disks.list",
    "compute.disks.setLabels",
    "compute.firewalls.create",
    "compute.firewalls.delete",
    "compute.firewalls.list",
    "compute.instances.create",
    "compute.instances.delete",
    "compute.instances.get",
    "compute.instances.getGuestAttributes",
    "compute.instances.getSerialPortOutput",
    "compute.instances.list",
    "compute.instances.setLabels",
    "compute.instances.setMetadata",
    "compute.instances.setTags",
    "compute.machineTypes.list",
    "compute.networks.list",
    "compute.networks.updatePolicy",
    "compute.projects.get",
    "compute.regions.list",
    "compute.subnetworks.list",
    "compute.subnetworks.use",
    "compute.subnetworks.useExternalIp",
    "compute.zoneOperations.get",
    "compute.zoneOperations.list",
)


def check() -> Sequence[Finding]:
    """Look whether Google Cloud can be used; see `Provider.check`."""
    try:
        project = account.project()
        found = calls.ask("tell of your project", "GET", "")
    except CloudrunError as error:
        return [unusable("gcp", error)]
    who = Finding("gcp", "pass", f"You are {account.who()}, in the project {project}.")
    return [who, _permissions(project), *_quotas(found)]


def _permissions(project: str) -> Finding:
    """Ask for every permission of a launch whether you have it."""
    there = account.resource_manager()
    if there is None:
        return Finding("gcp may", "skip", "Nobody here tells what you may.")
    url = f"{there}/projects/{project}:testIamPermissions"
    try:
        answer = calls.send("tell what you may", "POST", url, body={"permissions": list(_NEEDED)})
    except CloudrunError as error:
        return Finding("gcp may", "skip", f"Google does not say what you may. {error.why}")
    missing = sorted(set(_NEEDED) - set(answer.get("permissions") or []))
    if missing:
        return Finding(
            "gcp may",
            "fail",
            f"Your account lacks {', '.join(missing)}.",
            "Ask who manages the project for the role roles/compute.instanceAdmin.v1 and "
            "roles/compute.securityAdmin; docs/gcp.md has the list.",
        )
    return Finding("gcp may", "pass", f"All {len(_NEEDED)} permissions of a launch are there.")


def _quotas(project: dict[str, Any]) -> Iterator[Finding]:
    """What the quotas allow: of all regions together, and by GPU and region."""
    everywhere = {row["metric"]: row for row in project.get("quotas") or []}.get(_EVERYWHERE)
    if everywhere is not None:
        yield _global(everywhere)
    try:
        regions = calls.everything("tell your quotas", "regions")
    except CloudrunError as error:
        yield Finding("gcp quota", "skip", f"{error.what} {error.why}", error.try_this)
        return
    yield _regional("GPUs on demand", list(_left(regions, spot=False)))
    # Without a quota of their own, spot machines count against the one on demand.
    if spot := list(_left(regions, spot=True)):
        yield _regional("spot GPUs", spot)


def _global(row: dict[str, Any]) -> Finding:
    limit, used = float(row.get("limit") or 0), float(row.get("usage") or 0)
    if limit >= 1:
        return Finding("gcp quota", "pass", f"All regions together: {limit:g} GPUs, {used:g} used.")
    return Finding(
        "gcp quota",
        "fail",
        f"{_EVERYWHERE} is {limit:g}: no GPU can be started in any region (new projects begin so).",
        f"Ask for at least 1; Google takes a day or so: {_page(_EVERYWHERE)}",
    )


def _left(regions: Sequence[dict[str, Any]], spot: bool) -> Iterator[tuple[str, str, float]]:
    """Metric, region and limit of each quota of GPUs that allows any."""
    for region in regions:
        for row in region.get("quotas") or []:
            metric = str(row.get("metric"))
            if not metric.endswith("_GPUS") or "VWS" in metric or "COMMITTED" in metric:
                continue
            if metric.startswith("PREEMPTIBLE_") is spot and float(row.get("limit") or 0) >= 1:
                yield metric, str(region.get("name")), float(row["limit"])


def _regional(words: str, left: Sequence[tuple[str, str, float]]) -> Finding:
    if not left:
        return Finding(
            "gcp quota",
            "fail",
            f"{words}: none can be started in any region.",
            f"Ask for at least 1; Google takes a day or so: {_page('NVIDIA_T4_GPUS')}",
        )
    best: dict[str, list[str]] = {}
    for metric, region, limit in left:
        best.setdefault(metric, []).append(f"{region} {limit:g}")
    listed = "; ".join(
        f"{metric} in {', '.join(places[:3])}"
        + (f" and {len(places) - 3} more" if len(places) > 3 else "")
        for metric, places in sorted(best.items())
    )
    return Finding("gcp quota", "pass", f"{words}: {listed}.")


def _page(metric: str) -> str:
    return f"https://console.cloud.google.com/iam-admin/quotas?metric={metric}"
