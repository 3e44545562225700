from __future__ import annotations

import concurrent.futures
from pathlib import Path

import pytest

from cloudrun.errors import BadData, BadSettings, WrongUsage
from cloudrun.reports.folder import Folder
from cloudrun.reports.names import name_of
from cloudrun.reports.store import Store, open_store
from tests.doubles.reports import T4, report


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "reports"))


def test_the_name_tells_when_where_what_and_how() -> None:
    assert name_of(report()) == "2026/11/24/081251.204Z_local_cpu_passed_atestreport2.json"
    paid = report(environment=T4, machine={"provider": "aws"}, created="2026-11-24T01:00:00+02:00")
    assert name_of(paid) == "2026/11/23/230000.000Z_aws_tesla-t4_passed_atestreport2.json"


def test_a_name_cannot_leave_the_store() -> None:
    hostile = report(
        machine={"provider": "../../../etc"},
        environment={**T4, "gpus": [{"name": "../../x/\x00y"}]},
    )
    assert ".." not in name_of(hostile)
    assert name_of(hostile).count("/") == 3


def test_a_report_is_read_back_as_it_was_added(store: Store) -> None:
    path = store.add(report())
    (entry,) = store.entries()
    assert (entry.path, entry.id, entry.outcome) == (path, "atestreport2", "passed")
    assert entry.created == "2026-11-24T08:12:51.204Z"
    assert store.read(entry) == report()


def test_a_report_under_the_name_of_another_is_bad_data(store: Store) -> None:
    path = store.place.location / store.add(report(id="mine"))
    path.write_bytes(report(id="yours").to_json())
    with pytest.raises(BadData, match="another than its name says.*'yours'"):
        store.read(store.find("mine"))


def test_a_report_is_never_overwritten(store: Store) -> None:
    store.add(report())
    with pytest.raises(BadData, match="already"):
        store.add(report(notes=["another"]))
    assert store.read(store.find("last")).notes == ()


def test_of_many_writers_of_one_name_one_wins_and_its_report_is_whole(store: Store) -> None:
    reports = [report(notes=[f"{number}" * 2000]) for number in range(16)]

    def add(number: int) -> int | None:
        try:
            store.add(reports[number])
        except BadData:
            return None
        return number

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(add, range(16)) if number is not None]
    assert len(winners) == 1
    assert store.read(store.find("last")) == reports[winners[0]]
    assert [p.name for p in store.place.location.rglob("*") if p.is_file()] == [
        Path(name_of(reports[0])).name
    ]


def test_entries_come_newest_first_and_unknown_names_last(store: Store) -> None:
    for hour in ("09", "07", "11"):
        store.add(report(id=f"run{hour}", created=f"2026-11-24T{hour}:00:00.000Z"))
    (store.place.location / "notes.txt").write_text("hello")
    (store.place.location / "loop").symlink_to(store.place.location)
    (store.place.location / "from-a-friend.json").write_text("{}")
    assert [entry.id for entry in store.entries()] == ["run11", "run09", "run07", ""]


def test_a_time_range_is_listed_without_the_older_months(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in ("2025-12-31", "2026-10-31", "2026-11-01", "2026-11-20"):
        store.add(report(id=f"of{day}", created=f"{day}T07:00:00.000Z"))
    looked: list[str] = []
    below = Folder.below
    monkeypatch.setattr(Folder, "below", lambda *args: looked.append(args[1]) or below(*args))
    found = store.entries("2026-11-01T08:00:00.000Z")
    assert [entry.id for entry in found] == ["of2026-11-20"]
    assert looked == ["2026/11/"]
    found = store.entries("2026-10-31T07:00:00.000Z")
    assert [entry.id for entry in found] == ["of2026-11-20", "of2026-11-01", "of2026-10-31"]
    assert looked[1:] == ["2026/11/", "2026/10/"]


def test_what_lies_in_folders_of_other_names_is_listed_too(store: Store) -> None:
    store.add(report())
    strange = (
        "a/b/c.json",
        "2026/x.json",
        "2026/11/y.json",
        "2026/may/z.json",
        "x/2026/11/24.json",
    )
    # What runs have stored is theirs.
    for path in (*strange, "runs/arun/made.json"):
        (store.place.location / path).parent.mkdir(parents=True, exist_ok=True)
        (store.place.location / path).write_text("{}")
    assert [entry.path for entry in store.entries()][1:] == sorted(strange)


def test_a_report_is_found_by_id_by_a_unique_beginning_and_as_last(store: Store) -> None:
    store.add(report(id="abcde", created="2026-11-24T07:00:00.000Z"))
    store.add(report(id="abxyz", created="2026-11-24T09:00:00.000Z"))
    assert store.find("abcde").id == "abcde"
    assert store.find("abc").id == "abcde"
    assert store.find("last").id == "abxyz"
    with pytest.raises(WrongUsage, match="any of 2 reports"):
        store.find("ab")
    with pytest.raises(WrongUsage, match="There is no report 'zz'"):
        store.find("zz")


def test_an_id_that_begins_another_is_still_exact(store: Store) -> None:
    store.add(report(id="abc"))
    store.add(report(id="abcd"))
    assert store.find("abc").id == "abc"


def test_an_empty_store_is_no_error_to_list(store: Store) -> None:
    assert list(store.entries()) == []
    with pytest.raises(WrongUsage, match="cloudrun launch"):
        store.find("last")


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = open_store(str(tmp_path / "file" / "below"))
    with pytest.raises(BadSettings, match="Not a directory"):
        store.check_writable()
    with pytest.raises(BadSettings, match="cannot be written"):
        store.add(report())


def test_checking_leaves_nothing_behind(store: Store) -> None:
    store.check_writable()
    assert list(store.place.location.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ftp://host/x", "such as ./reports"),
        ("fil:///data/x", "Did you mean 'file:///data/x'"),
        ("file:/data", "Did you mean 'file:///data'"),
        ("s3:/x", "no store"),
        ("", "no name"),
        ("a\0b", "no name"),
    ],
)
def test_a_wrong_store_names_a_right_one(url: str, says: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        open_store(url)
    assert says in str(caught.value)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WrongUsage, match="is a file"):
        open_store(str(tmp_path / "file"))


def test_stores_are_named_by_path_by_home_and_by_file_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert open_store("~/r").place.location == tmp_path / "r"
    assert open_store("r").place.location == Path.cwd() / "r"
    assert open_store(f"file://{tmp_path}/r").place.location == tmp_path / "r"


def test_names_are_of_all_that_is_in_a_folder_and_below_it_if_wished(store: Store) -> None:
    path = store.add(report())
    store.place.put(f"{path}.sig", b"?")
    folder = path[: path.rfind("/") + 1]
    assert set(store.place.names(folder)) == {path, f"{path}.sig"}
    assert list(store.place.names("2026/")) == list(store.place.names("none/")) == []
    assert set(store.place.names("", below=True)) == {path, f"{path}.sig"}
