from __future__ import annotations

import itertools
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest

from cloudrun.errors import (
    AccessDenied,
    BadData,
    BadSettings,
    CloudrunError,
    HostUnreachable,
    NoCredentials,
    WrongUsage,
)
from cloudrun.reports import bucket, bucket_access
from cloudrun.reports.bucket import Missing
from cloudrun.reports.names import name_of
from cloudrun.reports.store import Store, open_store
from tests.conftest import Cloudrun
from tests.doubles import buckets
from tests.doubles.buckets import Buckets, Fault
from tests.doubles.reports import report


@pytest.fixture
def name() -> str:
    return f"bucket-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def s3(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buckets]:
    with buckets.s3(name) as double:
        for variable, value in buckets.s3_environment(double).items():
            monkeypatch.setenv(variable, value)
        yield double


@pytest.fixture
def store(s3: Buckets, name: str) -> Store:
    return open_store(f"s3://{name}/team")


@pytest.fixture(params=["s3", "gs", "az"])
def each(
    request: pytest.FixtureRequest, name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A store in a bucket of each of the clouds."""
    start, environment = {
        "s3": (buckets.s3, buckets.s3_environment),
        "gs": (buckets.s3, buckets.google_environment),
        "az": (buckets.azure, buckets.azure_environment),
    }[request.param]
    with start(name) as double:
        for variable, value in environment(double).items():
            monkeypatch.setenv(variable, value)
        yield open_store(f"{request.param}://{name}/of/a/team")


def test_reports_are_kept_in_a_bucket_as_in_a_folder(each: Store) -> None:
    each.check_writable()
    each.check_writable()
    for hour in ("07", "11", "09"):
        each.add(report(id=f"run{hour}", created=f"2026-11-24T{hour}:00:00.000Z"))
    old = report(id="old", created="2025-01-31T07:00:00.000Z")
    assert each.add(old) == each.add(old) == name_of(old)
    with pytest.raises(BadData, match="already"):
        each.add(report(id="run07", created="2026-11-24T07:00:00.000Z", notes=["another"]))
    assert [entry.id for entry in each.entries()] == ["run11", "run09", "run07", "old"]
    assert each.read(each.find("old")) == old
    assert each.find("last").id == "run11"
    assert [fact["report"] for _, fact in each.facts(each.entries("2026-01-01"))] == [
        "run11",
        "run09",
        "run07",
    ]
    with pytest.raises(BadData, match="Not[a-zA-Z]*Found|NoSuchKey"):
        each.place.get("2026/11/24/missing.json")


def test_a_bucket_that_is_not_there(each: Store) -> None:
    missing = open_store(each.url.replace("bucket-", "missing-"))
    for attempt in (missing.check_writable, lambda: list(missing.entries())):
        with pytest.raises(BadSettings, match="another with --store"):
            attempt()


@pytest.mark.parametrize(
    ("fault", "kind", "says"),
    [
        ((503, "SlowDown"), HostUnreachable, "asked too often"),
        ((500, "InternalError"), HostUnreachable, "InternalError.*later"),
        ((502, ""), HostUnreachable, "502 Bad Gateway. Try"),
        ((403, "AccessDenied"), AccessDenied, "s3:PutObject"),
        ((403, "RequestTimeTooSkewed"), AccessDenied, "clock is wrong"),
        ((400, "ExpiredToken"), AccessDenied, "Log in"),
        ((403, "InvalidAccessKeyId"), AccessDenied, "Log in"),
        ((301, "PermanentRedirect"), BadSettings, "AWS_REGION"),
        ((400, "AuthorizationHeaderMalformed"), BadSettings, "AWS_REGION"),
        ("cut", HostUnreachable, "no answer.*network"),
    ],
)
def test_what_a_cloud_refuses_is_said_in_words(
    s3: Buckets,
    store: Store,
    fault: Fault,
    kind: type[CloudrunError],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bucket_access, "_MOST_RETRIES", 1)
    path = store.add(report())
    s3.fault = lambda _request: fault
    for attempt in (lambda: store.add(report(id="another")), lambda: list(store.entries())):
        with pytest.raises(kind, match=says) as caught:
            attempt()
        assert str(caught.value).isprintable()
        assert "http://" not in str(caught.value)
    # One that may not be read, of many, is none of the others' business.
    alone = BadData if fault == (403, "AccessDenied") else kind
    with pytest.raises(alone):
        store.place.get(path)


def test_no_network(store: Store, s3: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_access, "_MOST_RETRIES", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(HostUnreachable, match="Connection refused"):
        list(store.entries())


def test_what_got_there_although_the_answer_was_lost_is_stored_once(
    s3: Buckets, store: Store
) -> None:
    faults = iter(["lost"])
    s3.fault = lambda _request: next(faults, None)
    path = store.add(report())
    assert [entry.path for entry in store.entries()] == [path]
    assert sum(asked.startswith("PUT") for asked in s3.asked) == 2


def test_names_that_no_report_can_have_hide_nothing_else(
    s3: Buckets, store: Store, name: str
) -> None:
    store.add(report(id="november", created="2026-11-24T07:00:00.000Z"))
    store.add(report(id="october", created="2026-10-24T07:00:00.000Z"))
    client = boto3.client("s3")
    for key in (
        "//x.json",
        "../x.json",
        "2026//x.json",
        "2026/11/../x.json",
        "2026/11/25/\x1b.json",
    ):
        client.put_object(Bucket=name, Key=f"team/{key}", Body=b"{}")
    client.put_object(Bucket=name, Key="team/2026/10/\u202egnp.json", Body=b"{}")
    client.put_object(Bucket=name, Key="team/data/of/others.json", Body=b"{}")
    rows = list(store.facts(store.entries()))
    good = [fact["report"] for _, fact in rows if not isinstance(fact, BadData)]
    assert good == ["november", "october"]
    bad = {entry.path: str(fact) for entry, fact in rows if isinstance(fact, BadData)}
    assert set(bad) == {"/", "2026/", "2026/11/", "2026/11/25/", "2026/10/\u202egnp.json"}
    assert "name that no report can have" in bad["2026/11/"]
    assert store.find("october").id == "october"


def test_the_newest_are_listed_with_few_questions(s3: Buckets, store: Store) -> None:
    for month, day in itertools.product(range(1, 12), (1, 2)):
        created = f"2026-{month:02d}-{day:02d}T07:00:00.000Z"
        store.add(report(id=f"of-{month}-{day}", created=created))
    s3.asked.clear()

    def newest() -> list[str]:
        told = store.facts(itertools.islice(store.entries(), 2))
        return [fact["report"] for _, fact in told]

    assert newest() == ["of-11-2", "of-11-1"]
    assert [asked.split()[0] for asked in s3.asked] == ["GET"] * 5
    s3.asked.clear()
    assert newest() == ["of-11-2", "of-11-1"]
    assert len(s3.asked) == 3
    assert all("list-type=2" in asked for asked in s3.asked)


def test_a_list_without_end_is_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "_PAGE", 1)
    monkeypatch.setattr(bucket, "_MOST_LISTED", 2)
    for number in range(3):
        store.add(report(id=f"of{number}"))
    with pytest.raises(BadSettings, match="more than 2 reports in 2026/11/"):
        list(store.entries())


def test_ctrl_c_does_not_wait_for_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
        command = [sys.executable, "-m", "cloudrun", "report", "list", "--store", "s3://bucket"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            asking, _ = deaf.accept()
            process.send_signal(signal.SIGINT)
            # It would wait for an answer for thirty seconds.
            _, said = process.communicate(timeout=15)
        asking.close()
    assert process.returncode == 130
    assert "Traceback" not in said


def test_two_hundred_writers_at_once_lose_nothing(
    s3: Buckets, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_access, "_MOST_RETRIES", 2)
    dice = random.Random(20261124)
    bad: list[Fault] = [(503, "SlowDown"), (500, "InternalError"), "lost", "cut"]
    s3.fault = lambda _request: dice.choice(bad) if dice.random() < 0.3 else None
    reports = [report(id=f"writer{number}", notes=["x" * 3000]) for number in range(190)]
    # Ten others all write under one name.
    reports += [report(id="shared", notes=[f"{number}" * 3000]) for number in range(10)]
    together = threading.Barrier(len(reports))

    def write(number: int) -> str:
        store = open_store(f"s3://{name}/team")
        together.wait()
        for _ in range(20):
            try:
                store.add(reports[number])
                return "stored"
            except BadData:
                return "another was first"
            except HostUnreachable:
                # What a run does: its report waits in its folder, and goes along the next time.
                continue
        return "lost"

    with ThreadPoolExecutor(len(reports)) as pool:
        ends = list(pool.map(write, range(len(reports))))
    assert set(ends[:190]) == {"stored"}
    assert sorted(ends[190:]) == ["another was first"] * 9 + ["stored"]
    s3.fault = lambda _request: None
    store = open_store(f"s3://{name}/team")
    found = {entry.id: store.read(entry) for entry in store.entries()}
    winner = reports[190 + ends[190:].index("stored")]
    assert found == {each.id: each for each in [*reports[:190], winner]}


def test_credentials_are_those_of_the_users_profile(
    s3: Buckets, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(NoCredentials, match="aws sso login"):
        list(store.entries())
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = none\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    seen: list[str] = []
    s3.fault = lambda request: seen.append(request.headers["Authorization"])
    assert list(open_store(store.url).entries()) == []
    assert "Credential=AKIAPROFILE/" in seen[0]


def test_credentials_that_cannot_be_had_are_told(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    program = f"{sys.executable} -c exit(1)"
    (tmp_path / "config").write_text(f"[default]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(AccessDenied, match="The credentials for Amazon S3 cannot be used"):
        list(store.entries())


def test_azure_without_an_account_asks_for_one() -> None:
    with pytest.raises(BadSettings, match="Set AZURE_STORAGE_ACCOUNT"):
        list(open_store("az://container/x").entries())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://", "no name of a bucket"),
        ("s3://UPPER/x", "no name of a bucket"),
        ("gs://ab", "no name of a bucket"),
        ("az://container/../x", "unusual name"),
        ("s3://bucket/a b", "unusual name"),
        ("s3://bucket/\x1b", "unusual name"),
        ("s3:/bucket/x", "Did you mean 's3://bucket/x'"),
        ("gcs://bucket/x", "Did you mean 'gs://bucket/x'"),
    ],
)
def test_a_wrong_name_of_a_bucket(url: str, says: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        open_store(url)
    assert says in str(caught.value)


def test_a_bucket_has_one_name() -> None:
    for url in ("s3://bucket/a/b", "s3://bucket/a/b/", "s3://bucket//a//b"):
        assert open_store(url).url == "s3://bucket/a/b"
    assert open_store("gs://bucket/").url == "gs://bucket"


@pytest.mark.parametrize("cloud", ["s3", "az"])
def test_a_signed_url_writes_one_object_without_credentials(
    cloud: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, environment = {
        "s3": (buckets.s3, buckets.s3_environment),
        "az": (buckets.azure, buckets.azure_environment),
    }[cloud]
    with start(name) as double:
        for variable, value in environment(double).items():
            monkeypatch.setenv(variable, value)
        place = open_store(f"{cloud}://{name}/of/a/team").place
        url = urlsplit(place.sign("runs/x/out", 60))
        connection = HTTPConnection(url.netloc)
        connection.request("PUT", f"{url.path}?{url.query}", b"said", {"x-ms-blob-type": "x"})
        assert connection.getresponse().status in (200, 201)
        assert b"".join(place.stream("runs/x/out")) == b"said"
        with pytest.raises(Missing):
            list(place.stream("runs/x/err"))
        assert list(open_store(place.url).entries()) == []


def test_credentials_that_cannot_sign_are_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with buckets.s3(name) as double:
        for variable, value in buckets.google_environment(double).items():
            monkeypatch.setenv(variable, value)
        with pytest.raises(CloudrunError, match=f"gs://{name}"):
            open_store(f"gs://{name}").place.sign("runs/x/out", 60)


def test_the_command_line_lists_a_bucket(cloudrun: Cloudrun, store: Store) -> None:
    store.add(report(id="there"))
    done = cloudrun("report", "list", "--json", "--store", store.url)
    assert [row["report"] for row in json.loads(done.stdout)] == ["there"]
    cloudrun("config", "set", "store", store.url)
    assert "there" in cloudrun("report", "show").stdout
    done = cloudrun("report", "list", "--store", "s3://no-such-bucket-anywhere")
    assert done.returncode == 78
    assert "NoSuchBucket" in done.stderr


def test_no_cloud_sdk_is_loaded_where_the_environment_tells_enough(store: Store) -> None:
    code = (
        "import sys; from cloudrun.reports.store import open_store\n"
        "print(list(open_store(sys.argv[1]).entries()))\n"
        "print({'boto3', 'google.auth', 'azure'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.url], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\nset()\n"
