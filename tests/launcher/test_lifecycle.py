"""The lifecycle on a provider of the tests' own: every way a run can go, in this process."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cloudrun import settings
from cloudrun.errors import (
    BadSettings,
    CloudrunError,
    DeadlineReached,
    HostUnreachable,
    Interrupted,
    Unavailable,
    WrongUsage,
)
from cloudrun.launcher import lifecycle, recovery
from cloudrun.launcher.journal import Journal
from cloudrun.model.events import Event, Noted, PhaseStarted, WorkloadSaid
from cloudrun.model.need import Need
from cloudrun.model.run import PHASES
from cloudrun.providers import base as providers
from cloudrun.reports import bucket_access
from cloudrun.reports.schema import Report
from cloudrun.reports.store import open_store
from tests.doubles import buckets
from tests.doubles.paid import PaidProvider

END = b"status=0 reason=exit started=1 ended=2 out=0 err=0 oom=0 free_kib=9\n"
NEED = Need(targets=("paid",), workload="smoke")


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> PaidProvider:
    paid = PaidProvider()
    monkeypatch.setattr(providers, "load", lambda _name: paid)
    monkeypatch.setattr(providers, "names", lambda: ("paid",))
    return paid


def launch(need: Need = NEED, **more: Any) -> Report:
    around = {name: more.pop(name) for name in ("approve", "listener") if name in more}
    around = {"approve": lambda _plan: None, **around}
    return lifecycle.launch(need, around=lifecycle.Around(**around), **more)


def stored() -> list[Report]:
    store = open_store(str(settings.places().store))
    return [store.read(entry) for entry in store.entries()]


def open_runs() -> int:
    with Journal(settings.places().state) as journal:
        return len(journal.open_runs())


def test_a_good_run_goes_through_all_phases_and_leaves_nothing(provider: PaidProvider) -> None:
    events: list[Event] = []
    report = launch(listener=events.append, argv=["cloudrun", "launch"])
    assert report.outcome == "passed"
    assert tuple(timing.phase for timing in report.timeline) == PHASES
    assert tuple(e.phase for e in events if isinstance(e, PhaseStarted)) == PHASES
    assert [e.line["event"] for e in events if isinstance(e, WorkloadSaid)][-1] == "finished"
    assert stored() == [report]
    assert provider.terminated == [f"m-{report.id}"]
    assert open_runs() == 0


def test_time_with_a_machine_costs_its_price(provider: PaidProvider) -> None:
    provider.prices = (3600.0,)
    report = launch()
    usd = {timing.phase: timing.usd for timing in report.timeline}
    seconds = {timing.phase: timing.seconds for timing in report.timeline}
    assert usd.pop("plan") == 0 < usd["run"]
    for phase in usd:
        assert usd[phase] == pytest.approx(seconds[phase], abs=0.01)
    # What lies between two phases is paid for too.
    assert sum(usd.values()) <= report.cost.usd < sum(usd.values()) + 0.1
    assert (report.machine.price_usd_per_hour, report.machine.price_as_of) == (3600.0, "2026-11-24")


def test_nothing_that_costs_money_starts_without_approval(provider: PaidProvider) -> None:
    with pytest.raises(WrongUsage, match="approve"):
        lifecycle.launch(NEED)
    assert provider.created == []
    assert open_runs() == 0


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"targets": ("aw",)}, "no target 'aw'.*'aws'"),
        ({"targets": "local"}, "makes no sense.*targets"),
        ({"ttl_s": "5m"}, "makes no sense.*ttl_s"),
        ({"gpu": "T4"}, "makes no sense.*gpu"),
        ({"profile": "fast"}, "makes no sense.*profile"),
    ],
)
def test_a_need_that_makes_no_sense_starts_nothing(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(WrongUsage, match=why):
        launch(Need(**fields))
    with pytest.raises(WrongUsage, match="makes no sense"):
        lifecycle.run("python train.py")  # type: ignore[arg-type]
    assert open_runs() == 0


def test_a_refused_plan_creates_nothing(provider: PaidProvider) -> None:
    def refuse(_plan: object) -> None:
        raise WrongUsage("no")

    with pytest.raises(WrongUsage, match="no"):
        launch(approve=refuse)
    assert provider.created == []


def test_a_failed_check_is_a_failed_report_and_no_exception(provider: PaidProvider) -> None:
    provider.script = "failing.py"
    report = launch()
    assert report.outcome == "failed"
    assert provider.terminated


def test_a_workload_that_is_killed_leaves_a_partial_report(provider: PaidProvider) -> None:
    provider.script = "dying.py"
    report = launch()
    assert report.outcome == "partial"
    assert [check.name for check in report.checks] == ["torch"]
    assert "SIGKILL" in report.notes[0]
    assert "the last word on stderr" in report.notes[0]
    assert provider.terminated


def test_nonsense_between_the_lines_is_noted_and_left_out(provider: PaidProvider) -> None:
    provider.script = "babbling.py"
    report = launch()
    assert report.outcome == "passed"
    assert report.measurements == ()
    assert len(report.notes) == 4


def test_the_deadline_ends_the_run_and_keeps_what_was_measured(provider: PaidProvider) -> None:
    provider.script = "endless.py"
    with pytest.raises(DeadlineReached, match="cloudrun report show"):
        launch(Need(targets=("paid",), workload="smoke", ttl_s=2))
    (report,) = stored()
    assert report.outcome == "partial"
    assert provider.terminated
    assert open_runs() == 0


@pytest.mark.parametrize(
    ("workload", "profile", "advised"),
    [("smoke", "full", False), ("all", "quick", False), ("all", "full", True)],
)
def test_less_work_is_advised_where_there_is_less(
    provider: PaidProvider, workload: Any, profile: Any, advised: bool
) -> None:
    provider.script = "endless.py"
    need = Need(targets=("paid",), workload=workload, profile=profile, ttl_s=1)
    with pytest.raises(DeadlineReached) as caught:
        launch(need)
    assert ("--profile quick" in caught.value.try_this) == advised
    assert "--ttl" in caught.value.try_this


def test_ctrl_c_ends_everything_and_keeps_what_was_measured(provider: PaidProvider) -> None:
    provider.script = "endless.py"

    def interrupt_at_first_check(event: Event) -> None:
        if isinstance(event, WorkloadSaid):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="cloudrun report show"):
        launch(listener=interrupt_at_first_check)
    (report,) = stored()
    assert report.outcome == "partial"
    assert provider.terminated
    assert open_runs() == 0


def test_ctrl_c_during_the_ending_still_ends_everything(provider: PaidProvider) -> None:
    def interrupt_in_the_end(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase == "end" and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt

    interrupted = threading.Event()
    with pytest.raises(Interrupted):
        launch(listener=interrupt_in_the_end)
    assert provider.terminated
    assert stored()[0].outcome == "passed"


def test_a_second_ctrl_c_stops_at_once(provider: PaidProvider) -> None:
    provider.script = "endless.py"

    endings = []

    def interrupt(event: Event) -> None:
        if isinstance(event, WorkloadSaid):
            raise KeyboardInterrupt
        if isinstance(event, PhaseStarted) and event.phase == "end":
            endings.append(event)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(listener=interrupt)
    assert len(endings) == 1


def test_the_job_is_told_workload_device_and_profile(provider: PaidProvider) -> None:
    provider.script = "echoing.py"
    report = launch(Need(targets=("paid",), profile="full"))
    assert report.notes[0] == "work.py --workload all --device cpu --profile full"


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase not in ("plan", "end")])
def test_an_error_in_any_phase_ends_the_machine(provider: PaidProvider, phase: str) -> None:
    def fail(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase == phase:
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        launch(listener=fail)
    assert len(provider.terminated) == len(provider.created)
    assert open_runs() == 0


def test_no_machine_no_report(provider: PaidProvider) -> None:
    provider.refuses = Unavailable("sold out")
    with pytest.raises(Unavailable, match="sold out"):
        launch()
    assert stored() == []
    assert open_runs() == 0


def test_a_store_that_cannot_be_written_is_said_before_anything_starts(
    provider: PaidProvider, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CloudrunError):
        launch(store=str(tmp_path / "file" / "below"))
    assert provider.created == []


def test_a_report_that_cannot_be_stored_is_kept_for_the_next_run(
    provider: PaidProvider, tmp_path: Path
) -> None:
    store = tmp_path / "reports"

    def lose_the_store(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase == "end" and store.is_dir():
            store.rename(tmp_path / "away")
            store.write_text("in the way")

    with pytest.raises(BadSettings, match="cannot be written.*The report waits"):
        launch(store=str(store), listener=lose_the_store)
    assert open_runs() == 1
    store.unlink()
    second = launch(store=str(store))
    kept = open_store(str(store))
    reports = {entry.id: kept.read(entry) for entry in kept.entries()}
    first = next(report for report in reports.values() if report.id != second.id)
    # It is the report of the run's end, not one that was put together out of what was left.
    assert first.outcome == "passed"
    assert "put together later" not in str(first.notes)
    assert len(reports) == 2
    assert open_runs() == 0


def test_reports_wait_for_a_bucket_that_gives_no_answer_and_go_along_later(
    provider: PaidProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_access, "_MOST_RETRIES", 1)
    with buckets.s3("a-bucket-for-waiting") as double:
        for name, value in buckets.s3_environment(double).items():
            monkeypatch.setenv(name, value)

        def lose_the_network(event: Event) -> None:
            if isinstance(event, PhaseStarted) and event.phase == "end":
                double.fault = lambda _request: "cut"

        for _ in range(2):
            with pytest.raises(HostUnreachable, match="no answer.*The report waits"):
                launch(store="s3://a-bucket-for-waiting/x", listener=lose_the_network)
            double.fault = lambda request: "cut" if request.method == "GET" else None
        notes: list[str] = []
        double.asked.clear()
        launch(listener=lambda event: notes.append(getattr(event, "text", "")))
        assert sum("still waits to be stored" in note for note in notes) == 2
        # Both are of one bucket, which is asked in vain once.
        assert len(double.asked) == 2
        double.fault = lambda _request: None
        launch(listener=lambda event: notes.append(getattr(event, "text", "")))
        assert sum("is stored: cloudrun report show" in note for note in notes) == 2
        assert len(list(open_store("s3://a-bucket-for-waiting/x").entries())) == 2
    assert open_runs() == 0


def test_a_run_whose_machine_has_stored_all_waits_to_be_brought_home(
    provider: PaidProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_access, "_MOST_RETRIES", 0)
    with buckets.s3("a-bucket-of-a-run") as double:
        for name, value in buckets.s3_environment(double).items():
            monkeypatch.setenv(name, value)
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "end_run", lambda *_: None)
            patch.setattr(recovery, "put_aside", lambda *_: None)
            left = launch(store="s3://a-bucket-of-a-run")
        notes: list[str] = []

        def ps() -> tuple[str, ...]:
            notes.clear()
            with Journal(settings.places().state) as journal:
                found = recovery.recover(journal, lambda event: notes.append(event.text))
            return tuple(row.id for row in found.alone)

        with Journal(settings.places().state) as journal:
            row = journal.known(left.id)
            gone = msgspec.structs.replace(row.machine, deadline="2026-01-01T00:00:00.000Z")
            journal.set_machine(left.id, gone)
            journal.set_job(left.id, "2026-01-01T00:00:00.000Z")
        double.fault = lambda _request: "cut"
        assert ps() == (left.id,)
        double.fault = lambda _request: None
        place = open_store("s3://a-bucket-of-a-run").place
        place.put(f"runs/{left.id}/end.txt", END)
        assert ps() == (left.id,)
        assert notes == [f"Run {left.id} has ended. Bring it home: cloudrun attach {left.id}"]
        assert open_runs() == 1


def test_a_run_that_stored_its_report_and_died_then_is_ended_without_a_second_one(
    provider: PaidProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "end_run", die)
        with pytest.raises(KeyboardInterrupt):
            launch()
    assert open_runs() == 1
    launch()
    assert open_runs() == 0
    assert len(stored()) == 2
    assert all("put together later" not in str(report.notes) for report in stored())


def test_a_dead_run_whose_folder_is_gone_is_ended_too(
    provider: PaidProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "end_run", lambda *_: None)
        launch()
    shutil.rmtree(settings.places().state / "runs")
    launch()
    assert open_runs() == 0


def test_the_end_is_reached_although_the_journal_fails(
    provider: PaidProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Journal.add_step

    def full_disk_at_the_end(self: Journal, run: str, phase: str, *more: str) -> None:
        if phase == "end":
            raise BadSettings("The disk is full.")
        real(self, run, phase, *more)

    monkeypatch.setattr(Journal, "add_step", full_disk_at_the_end)
    with pytest.raises(BadSettings, match="disk is full"):
        launch()
    assert provider.terminated


def test_an_ending_that_fails_keeps_nothing_of_the_rest(
    provider: PaidProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_host: object) -> None:
        raise RuntimeError("the connection is gone")

    monkeypatch.setattr("cloudrun.hosts.local.LocalHost.close", fail)
    with pytest.raises(RuntimeError, match="connection is gone"):
        launch()
    assert provider.terminated
    assert len(stored()) == 1
    assert open_runs() == 0


def test_a_damaged_run_does_not_stop_the_others(provider: PaidProvider) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "end_run", lambda *_: None)
        launch()
        launch()
    first, second = sorted((settings.places().state / "runs").iterdir())
    shutil.rmtree(first)
    first.write_text("a file where the folder was")
    (second / "out").unlink()
    (second / "out").mkdir()
    launch()
    assert open_runs() == 0


def test_the_rows_of_a_newer_cloudrun_are_named_and_left_alone(provider: PaidProvider) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "end_run", lambda *_: None)
        strange, dead = launch(), launch()
    shutil.rmtree(settings.places().store)
    with Journal(settings.places().state) as journal, sqlite3.connect(journal.path) as db:
        db.execute('UPDATE runs SET need = \'{"profile": "huge"}\' WHERE id = ?', (strange.id,))
        db.execute("UPDATE steps SET phase = 'dance' WHERE run = ? AND phase = 'push'", (dead.id,))
    events: list[Event] = []
    fresh = launch(listener=events.append)
    (said,) = [e.text for e in events if isinstance(e, Noted) and strange.id in e.text]
    assert "left alone" in said
    assert fresh.notes == ()
    reports = {report.id: report for report in stored()}
    assert set(reports) == {dead.id, fresh.id}
    assert any("timeline is not whole" in note for note in reports[dead.id].notes)
    assert [timing.phase for timing in reports[dead.id].timeline] == [
        phase for phase in PHASES if phase != "push"
    ]
    with Journal(settings.places().state) as journal:
        assert [row.id for row in journal.strange_runs()] == [strange.id]


def test_numbers_outlive_the_runs_folder(provider: PaidProvider) -> None:
    def lose_the_folder(event: Event) -> None:
        if isinstance(event, PhaseStarted) and event.phase == "collect":
            shutil.rmtree(settings.places().state / "runs")

    assert launch(listener=lose_the_folder).outcome == "passed"
