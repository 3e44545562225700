"""Can Google Cloud be used? What `doctor` says of it."""

from __future__ import annotations

import pytest

from cloudrun.providers import gcp
from cloudrun.providers.base import Finding
from tests.doubles import gce_world
from tests.doubles.gce import Cloud
from tests.doubles.gce_faults import Fault


def found(name: str, words: str = "") -> Finding:
    (finding,) = [f for f in gcp.check() if f.name == name and words in f.detail]
    return finding


def test_all_is_well(paper: Cloud) -> None:
    assert {finding.status for finding in gcp.check()} == {"pass"}
    assert gce_world.PROJECT in found("gcp").detail
    assert "NVIDIA_T4_GPUS in europe-west4 4" in found("gcp quota", "on demand").detail
    assert "4 GPUs" in found("gcp quota", "All regions").detail
    # It only asks.
    assert {request.method.partition(".")[2] for request in paper.requests} == {
        "get", "list", "testIamPermissions",
    }  # fmt: skip


def test_missing_permissions_are_named(paper: Cloud) -> None:
    paper.deny |= {"compute.instances.create", "compute.firewalls.delete"}
    finding = found("gcp may")
    assert finding.status == "fail"
    assert "lacks compute.firewalls.delete, compute.instances.create." in finding.detail


def test_where_only_the_compute_api_is_named_no_other_is_asked(
    paper: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER")
    assert found("gcp may").status == "skip"


def test_no_gpu_anywhere_says_where_to_ask(paper: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    none = {"quotas": [{"metric": "GPUS_ALL_REGIONS", "limit": 0.0, "usage": 0.0}]}
    monkeypatch.setattr(gce_world, "project", lambda: none)
    finding = found("gcp quota", "GPUS_ALL_REGIONS")
    assert finding.status == "fail"
    assert "metric=GPUS_ALL_REGIONS" in finding.remedy


def test_no_quota_in_any_region(paper: Cloud) -> None:
    for key, region in paper.resources.items():
        if key[0] == "regions":
            region["quotas"] = [{"metric": "CPUS", "limit": 24.0, "usage": 0.0}]
    assert found("gcp quota", "on demand").status == "fail"


def test_an_unknown_quota_is_not_zero(paper: Cloud) -> None:
    paper.deny.add("compute.regions.list")
    (finding,) = [f for f in gcp.check() if f.name == "gcp quota" and f.status != "pass"]
    assert finding.status == "skip"


@pytest.mark.parametrize(
    ("code", "words", "remedy"),
    [
        ("accessNotConfigured", "not enabled", "gcloud services enable compute.googleapis.com"),
        ("billingNotEnabled", "no billing account", "console.cloud.google.com/billing"),
        ("authError", "does not accept your credentials", "application-default login"),
    ],
)
def test_an_account_that_is_not_ready(paper: Cloud, code: str, words: str, remedy: str) -> None:
    paper.faults.append(Fault("projects.get", code))
    (finding,) = gcp.check()
    assert finding.status == "fail"
    assert words in finding.detail
    assert remedy in finding.remedy
