"""Who we are at Google: found as gcloud finds it, and not set up is no mistake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloudrun.errors import (
    AccessDenied,
    BadSettings,
    HostUnreachable,
    NoCredentials,
    NotInstalled,
)
from cloudrun.providers import gcp, patience
from cloudrun.providers.gcp import account
from tests.doubles.gce import Cloud


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    account.forget()
    yield
    account.forget()


@pytest.fixture
def gcloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of gcloud's settings, with one that is active."""
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    (tmp_path / "active_config").write_text("work")
    (tmp_path / "configurations").mkdir()
    (tmp_path / "configurations" / "config_work").write_text(
        "[core]\nproject = of-gcloud\naccount = me@example.org\n[compute]\nregion = us-east1\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("value", "endpoint"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:1/compute/v1"),
        ("http://127.0.0.1:1/", "http://127.0.0.1:1/compute/v1"),
        ("http://127.0.0.1:1/compute/v1/", "http://127.0.0.1:1/compute/v1"),
        ("", "https://compute.googleapis.com/compute/v1"),
    ],
)
def test_the_endpoint_is_gclouds(
    monkeypatch: pytest.MonkeyPatch, value: str, endpoint: str
) -> None:
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", value)
    assert account.compute() == endpoint


@pytest.mark.parametrize(
    ("url", "anonymous"),
    [("http://127.0.0.1:1", True), ("http://localhost:1", True), ("http://[::1]:1", True),
     ("https://compute-mine.p.googleapis.com", False), ("http://10.0.0.1", False)],
)  # fmt: skip
def test_nobody_sends_credentials_to_this_machine(
    monkeypatch: pytest.MonkeyPatch, url: str, anonymous: bool
) -> None:
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", url)
    assert account.is_anonymous() is anonymous


def test_the_project_is_that_of_the_environment_else_of_gcloud(
    gcloud: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE", "http://127.0.0.1:1")
    assert account.project() == "of-gcloud"
    assert account.home_region() == "us-east1"
    monkeypatch.setenv("CLOUDSDK_CORE_PROJECT", "of-sdk")
    assert account.project() == "of-sdk"
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "of-environment")
    assert account.project() == "of-environment"


def test_no_project_is_told(paper: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    with pytest.raises(BadSettings, match=r"No project.*gcloud config set project"):
        gcp.find()


def test_who_never_set_it_up_is_told_so_without_a_look_at_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # google.auth would ask for a machine of Google's, for seconds.
    monkeypatch.setattr("google.auth.default", lambda **_: pytest.fail("it looks"))
    with pytest.raises(NoCredentials, match="gcloud auth application-default login"):
        gcp.find()
    (finding,) = gcp.check()
    assert finding.status == "skip"


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(NotInstalled, match=r"-m pip install \"google-auth"):
        gcp.find()


def test_credentials_that_cannot_be_read_are_a_failure(
    gcloud: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (gcloud / "application_default_credentials.json").write_text("{}")
    (finding,) = gcp.check()
    assert finding.status == "fail"
    assert "application-default login" in finding.remedy


def test_credentials_that_have_expired_are_no_lost_answer(
    paper: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.auth import exceptions

    def refuse(*_arguments: object, **_more: object) -> None:
        raise problem

    monkeypatch.setattr(account.session(), "request", refuse)
    problem: Exception = exceptions.RefreshError("Reauthentication is needed.")
    with pytest.raises(AccessDenied, match=r"Reauthentication is needed.*application-default"):
        gcp.find()
    monkeypatch.setattr(patience, "_INSIST_S", 0.0)
    problem = exceptions.TransportError("no route to host")
    with pytest.raises(HostUnreachable, match="no route to host"):
        gcp.find()
