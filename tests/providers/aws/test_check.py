"""Can AWS be used? What `doctor` says of it."""

from __future__ import annotations

import pytest

from cloudrun.providers import aws
from cloudrun.providers.aws import calls
from cloudrun.providers.base import Finding
from cloudrun.rehearsal.cloud import Cloud
from cloudrun.rehearsal.faults import Fault
from cloudrun.rehearsal.regions import ALWAYS

G_ON_DEMAND = "L-DB2E81BA"


def found(name: str, words: str = "") -> Finding:
    (finding,) = [f for f in aws.check() if f.name == name and words in f.detail]
    return finding


def test_all_is_well(paper: Cloud) -> None:
    assert {finding.status for finding in aws.check()} == {"pass"}
    assert "user/cloudrun" in found("aws").detail
    assert "us-east-1 64 vCPUs" in found("aws quota", "G and VT machines").detail
    # It only asks.
    assert not paper.instances
    assert all(
        request.params.get("DryRun")
        for request in paper.requests
        if request.action.startswith(("Run", "Create", "Delete", "Terminate", "Authorize"))
    )


def test_missing_permissions_are_named(paper: Cloud) -> None:
    paper.deny |= {"ec2:RunInstances", "ec2:DeleteSecurityGroup"}
    finding = found("aws may")
    assert finding.status == "fail"
    assert "lacks ec2:RunInstances, ec2:DeleteSecurityGroup." in finding.detail


def test_no_quota_anywhere_says_where_to_ask(paper: Cloud) -> None:
    for region in ALWAYS:
        paper.quotas[region, G_ON_DEMAND] = 0.0
    finding = found("aws quota", "G and VT machines")
    assert finding.status == "fail"
    assert f"quotas/{G_ON_DEMAND}" in finding.remedy


def test_an_unknown_quota_is_not_zero(paper: Cloud) -> None:
    paper.faults.append(Fault("GetServiceQuota", "AccessDeniedException"))
    finding = found("aws quota", "G and VT machines")
    assert finding.status == "skip"
    assert "not known" in finding.detail


def test_a_quota_in_one_region_is_enough(paper: Cloud) -> None:
    for region in ALWAYS:
        paper.quotas[region, G_ON_DEMAND] = 0.0
    paper.quotas["eu-west-1", G_ON_DEMAND] = 8.0
    finding = found("aws quota", "G and VT machines")
    assert (finding.status, "eu-west-1 8 vCPUs" in finding.detail) == ("pass", True)
    # Eight vCPUs start a T4, and none of the larger ones.
    assert "enough for T4" in finding.detail
    assert "H100" not in finding.detail


def test_no_credentials_is_no_failure_for_who_has_no_account(
    paper: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    calls.forget()
    (finding,) = aws.check()
    assert finding.status == "skip"


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidClientTokenId"])
def test_credentials_that_do_not_work_are_a_failure(paper: Cloud, code: str) -> None:
    paper.faults.append(Fault("GetCallerIdentity", code))
    (finding,) = aws.check()
    assert finding.status == "fail"
    assert "aws configure" in finding.remedy
